"""Which prompts are trained on and which are held out."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Literal

from align.errors import ConfigError
from align.world.gold_rewards import request_of
from align.world.universe import Prompt, World

SplitName = Literal["train", "val", "test"]
HELD_OUT_SHARE = 8
"""One prompt in so many is held out."""
TRIES = 200


def draw_prompt(world: World, split: SplitName, draw: random.Random) -> Prompt:
    """Return a prompt of a split: training and validation share entities and no prompt, test has its own entities."""
    if split == "test":
        return world.prompt(draw, world.held_out_names)
    while True:
        prompt = world.prompt(draw, world.train_names)
        if _held_out(prompt) == (split == "val"):
            return prompt


def held_out_prompts(
    world: World, harmless: int, harmful: int, *, split: Literal["val", "test"] = "val", seed: int = 0
) -> list[Prompt]:
    """Return different held-out prompts, the harmless ones first. Raises ConfigError when there are too few."""
    return [*_prompts(world, harmless, False, split, seed), *_prompts(world, harmful, True, split, seed)]


def _prompts(world: World, count: int, harmful: bool, split: Literal["val", "test"], seed: int) -> Sequence[Prompt]:
    draw = random.Random(f"prompts {seed} {split}")
    found: dict[Prompt, None] = {}
    for _ in range(TRIES * count):
        prompt = draw_prompt(world, split, draw)
        if request_of(world, prompt).harmful == harmful:
            found[prompt] = None
        if len(found) == count:
            break
    if len(found) < count:
        kind = "harmful" if harmful else "harmless"
        raise ConfigError(f"the {split} split has {len(found)} different {kind} prompts, expected {count}")
    return list(found)


def _held_out(prompt: Prompt) -> bool:
    text = "\n".join(message.content for message in prompt)
    return hashlib.sha256(text.encode()).digest()[0] % HELD_OUT_SHARE == 0
