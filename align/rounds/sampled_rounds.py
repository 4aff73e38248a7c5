"""Rounds of methods that train on samples as they were drawn: what they are given, and what fits them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow.compute as pc

from align.data.encoded_groups import EncodedGroups
from align.data.extents import lengths_of
from align.errors import ConfigError
from align.records import Example, SampledRound, column_of
from align.rounds.against_mixture import AgainstMixture
from align.rounds.every_sample import FINISHED
from align.rounds.settings import RoundSettings

PLACE = "align.callbacks.resampling.IterativeResampling"


@runtime_checkable
class OnlineMethod(Protocol):
    """A method that trains on samples as they were drawn."""

    compares: bool
    """Whether the samples of a prompt are held against each other, and one alone teaches nothing."""

    @property
    def reads_reference(self) -> bool:
        """Whether the reference's log-probabilities are read."""

    def begin_round(self, sampled: SampledRound, *, first: bool) -> None:
        """Take the samples of a round; `first` tells whether no step was taken on them yet."""


def check_online(module: object, settings: RoundSettings) -> None:
    """Raise ConfigError where a method and what rounds make do not fit each other."""
    online, name = isinstance(module, OnlineMethod), type(module).__name__
    if online != settings.selection.keeps_samples:
        fix = "set selection EverySample" if online else f"{name} trains on records, take another selection"
        raise ConfigError(f"{PLACE}.selection {type(settings.selection).__name__} does not fit {name}: {fix}")
    if not online:
        return
    if settings.generation.temperature == 0 or settings.generation.top_p < 1:
        raise ConfigError(
            f"{PLACE}.generation: {name} needs the probabilities of what was drawn, which are those of the model at a "
            f"temperature above 0 and top_p 1, got {settings.generation.temperature:g}, {settings.generation.top_p:g}"
        )
    mixture = None if isinstance(settings.selection, AgainstMixture) else settings.mixture
    if any(part is not None for part in (settings.replay, settings.conditions, mixture)):
        raise ConfigError(
            f"{PLACE}: {name} trains on its own samples alone: leave replay, conditions and mixture out (a mixture is "
            "for selection AgainstMixture)"
        )
    _check_samples(module, settings)


def _check_samples(module: Any, settings: RoundSettings) -> None:
    """Raise ConfigError for a mixture without a reference, or samples alone where they should be compared."""
    name, mixed = type(module).__name__, isinstance(settings.selection, AgainstMixture)
    if mixed and not module.reads_reference:
        raise ConfigError(f"{PLACE}.mixture: {name} has no reference at objective.beta 0: set objective.beta")
    if settings.selection.compared(settings.generation) == 1 and module.compares:
        alone = f"selection {type(settings.selection).__name__} gives" if mixed else "generation.num_samples 1 makes"
        raise ConfigError(
            f"{PLACE}: {alone} one sample of each prompt, and objective.advantage.baseline "
            f"{module.objective.advantage.baseline} compares those of a prompt: every advantage would be 0. Take more "
            "samples, or baseline none"
        )


def sampled_round(groups: EncodedGroups, number: int, *, drawn: Sequence[Example], **more: Any) -> SampledRound:
    """Return the samples of a sealed round as its method is given them.

    Args:
        groups: Its records, encoded.
        number: Of the round.
        drawn: Its records, where they tell log-probabilities of another engine than ours.
        more: Further fields.
    """
    columns = groups.table.with_format("arrow")[:]
    place = {name: column_of(groups.attributes, name) for name in ("reward", FINISHED)}
    ids = columns["id"].to_pylist()
    return SampledRound(
        number,
        ids=ids,
        sizes=np.asarray(groups.sizes),
        lengths=lengths_of(pc.list_flatten(columns["response_ids"])),
        rewards=groups.labels[:, place["reward"]],
        finished=groups.labels[:, place[FINISHED]],
        engine_logprobs=_told(ids, drawn),
        **more,
    )


def _told(ids: Sequence[str], drawn: Sequence[Example]) -> np.ndarray | None:
    """Return what an engine told of every token, in the order of the groups; None where it told nothing."""
    if not any(example.engine_logprobs for example in drawn):
        return None
    rows = {e.id: e.engine_logprobs or [[np.nan] * len(ids) for ids in e.response_ids] for e in drawn}
    return np.array([value for name in ids for told in rows[name] for value in told])
