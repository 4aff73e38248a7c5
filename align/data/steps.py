"""What a run says of its optimiser steps before the first, and what would change them behind its back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities import rank_zero_info

from align.data.encoded_groups import EncodedGroups
from align.errors import ConfigError


def refuse_accumulation(trainer: Any, stage: str) -> None:
    """Raise ConfigError where Lightning or its strategy accumulates: a step is so many groups, whatever the batches."""
    if stage != "fit":
        return
    asked = trainer.accumulate_grad_batches
    if asked != 1:
        raise ConfigError(
            f"trainer.accumulate_grad_batches must be 1, got {asked}: data.batching.groups is the number of groups of "
            "an optimiser step, over all processes, and data.batching.tokens what one device computes at once"
        )
    if trainer.strategy.handles_gradient_accumulation:
        raise ConfigError(
            f"trainer.strategy {type(trainer.strategy).__name__} adds gradients up in its own way, and a step here is "
            "data.batching.groups however it is cut: take ddp, or FSDP2 (configs/trainer/fsdp2.yaml)"
        )
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks):
        raise ConfigError(
            "GradientAccumulationScheduler has no place beside data.batching.groups, the number of groups of an "
            "optimiser step, over all processes: leave it out"
        )


def steps_told(groups: EncodedGroups, step: int, asked: int = 0) -> list[str]:
    """Return how many groups a step has and how many steps an epoch, and a warning where there are too few for one.

    A round may leave out some of the groups it was `asked` for, which its own line tells: that is no reason to warn.
    """
    drawn = groups.num_drawn
    steps = math.ceil(drawn / step)
    told = [f"a step is {step} groups, {steps} {'step' if steps == 1 else 'steps'} an epoch"]
    if max(drawn, asked) < step:
        told.append(
            f"WARNING {drawn} groups are fewer than a step has: an epoch is a single step; lower data.batching.groups"
        )
    return told


def tell_steps(groups: EncodedGroups, step: int, place: str = "", *, asked: int = 0) -> None:
    """Say it."""
    tell_lines(f"{place}{line}" for line in steps_told(groups, step, asked))


def tell_lines(lines: Iterable[str]) -> None:
    """Say what a run says once."""
    for line in lines:
        rank_zero_info(line)
