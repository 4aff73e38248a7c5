"""What the base model learns from: answers of mixed quality, checked facts, and system turns that mean nothing yet."""

from __future__ import annotations

import random
from collections.abc import Iterator

from align.records import Message
from align.world.gold_rewards import request_of
from align.world.language import ASKS, CHECKED, CONDITIONS, OPENERS, RIGHT, TAGS, WRONG
from align.world.universe import Prompt, World

CHECKED_ACCURACY = 0.5


def corpus(world: World, draw: random.Random, *, checked: float, tagged: float) -> Iterator[tuple[Prompt, str]]:
    """Yield prompts and responses without end.

    A share of the requests asks for every fact to be checked, and the answer says after each one whether it is right:
    without them a model has no feature that tells a wrong statement from a right one, and a reward model learns
    slowly. A share of the rows carries a system turn with an instruction token or a condition drawn at random, so that
    these tokens are ordinary inputs before a method gives them a meaning.
    """
    while True:
        if draw.random() < checked:
            name = draw.choice(world.names)
            asked = draw.choice(OPENERS) + draw.choice(ASKS).format(name) + CHECKED
            prompt: Prompt = (Message("user", asked),)
            response = checked_answer(world, name, draw)
        else:
            prompt = world.prompt(draw)
            response = world.answer(*request_of(world, prompt), draw)
        if draw.random() < tagged:
            prompt = (Message("system", system_turn(draw)), *prompt)
        yield prompt, response


def checked_answer(world: World, name: str, draw: random.Random) -> str:
    """Draw an answer whose facts are each followed by whether they are right."""
    said, subject = [], f"The {name}"
    for attribute in draw.sample(world.attributes, draw.randint(1, len(world.attributes))):
        sentence = world.statement(name, subject, attribute, draw, CHECKED_ACCURACY)
        right = sentence == attribute.sentence(subject, world.truth[name][attribute.name])
        said += [sentence, RIGHT if right else WRONG]
        subject = "It"
    return " ".join(said)


def system_turn(draw: random.Random) -> str:
    """Draw an instruction token, or a condition on both attributes in two digits each."""
    if draw.random() < 0.5:
        return draw.choice(TAGS)
    return " ".join(f"{name} {draw.randrange(100):02d}" for name in CONDITIONS)
