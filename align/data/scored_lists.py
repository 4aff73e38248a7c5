"""Lists with one reward per response, for PRO and the other list objectives: which order they stand in, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from align.data.drop_report import DroppedRow, LeftOut
from align.data.selection import select, usable
from align.data.views import View
from align.errors import ConfigError
from align.records import Example


@dataclass(frozen=True)
class ScoredLists(View):
    """Responses of a prompt in order, best first, each with a reward where the data has one for all of them.

    A list without a reward for every response keeps its labelled order and has none (PRO then takes temperature 1 and
    counts it). Lists in which all responses are tied are dropped.
    """

    ranking_source: Literal["rm", "human"] = "rm"
    """`rm` orders by reward and so overwrites the labels, as PRO's released code does even for pairs; `human` keeps the
    labelled order and hands the rewards, sorted, out by position (PRO, arXiv:2306.17492, on bootstrapping)."""
    attributes: Mapping[str, float] | None = None
    """Weights of the attributes whose sum is the reward; null takes the first attribute."""
    max_responses: int | None = None
    """Keep only the first this many of each list; 1 makes best-of-n data for supervised fine-tuning."""

    def __post_init__(self) -> None:
        if self.max_responses is not None and self.max_responses < 1:
            raise ConfigError(f"max_responses must be at least 1, got {self.max_responses}")
        if self.attributes is not None and not self.attributes:
            raise ConfigError("attributes is empty: name at least one, or leave it out")

    def groups(self, example: Example) -> Iterable[Example]:
        """Return one group."""
        if len(example.responses) < 2 and self.max_responses != 1:
            raise DroppedRow("fewer than two responses")
        order = usable(example)
        rewards = self._rewards(example, order)
        if rewards is not None and self.ranking_source == "rm":
            values = [-rewards[i] for i in order]
            order = [i for _, i in sorted(zip(values, order, strict=True), key=lambda pair: pair[0])]
            ranks = [sorted(set(values)).index(-rewards[i]) for i in order]
        elif example.ranking:
            ranks = [sorted({example.ranks[i] for i in order}).index(example.ranks[i]) for i in order]
            rewards = None if rewards is None else _by_position(rewards, order, ranks)
        else:
            known = "no labelled ranking" if rewards else "a reward is missing and there is no ranking"
            raise DroppedRow(known if example.scores else "no ranking")
        order, ranks = order[: self.max_responses], ranks[: self.max_responses]
        if len(order) > 1 and len(set(ranks)) == 1:
            raise LeftOut("tied responses")
        scores = () if rewards is None else tuple((rewards[i],) for i in range(len(example.responses)))
        attributes = () if rewards is None else ("reward",)
        return [select(replace(example, attributes=attributes, scores=scores), order, ranks)]

    def _rewards(self, example: Example, order: Sequence[int]) -> list[float] | None:
        """Return the reward of every response, or None when one of `order` has none."""
        if not example.scores:
            return None
        weights = self.attributes or {example.attributes[0]: 1.0}
        if unknown := [name for name in weights if name not in example.attributes]:
            raise DroppedRow(f"no attribute {unknown[0]!r} (there: {', '.join(example.attributes)})")
        columns = [(example.attributes.index(name), weight) for name, weight in weights.items()]
        rewards = [sum(weight * row[c] for c, weight in columns) for row in example.scores]
        return None if any(math.isnan(rewards[i]) for i in order) else rewards


def _by_position(rewards: Sequence[float], order: Sequence[int], ranks: Sequence[int]) -> list[float]:
    """Return the rewards of `order` sorted and handed out from the best place down; tied places share their mean."""
    values = sorted((rewards[i] for i in order), reverse=True)
    shared = {rank: fmean(v for v, r in zip(values, ranks, strict=True) if r == rank) for rank in set(ranks)}
    placed = list(rewards)
    for i, rank in zip(order, ranks, strict=True):
        placed[i] = shared[rank]
    return placed
