"""Rounds under directions: what DPA asks of the policy, round by round, and what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from align.errors import ConfigError, DataError
from align.records import Conditioning
from align.records.cap import Cap
from align.records.reward_directions import Way
from align.rounds.scored_samples import stream_of

Rating = tuple[float, ...]
TOP = 90
"""Percentile of the first reward that a target asks for, among the responses of its bin."""


class SampleCondition(NamedTuple):
    """A condition on the samples of a prompt."""

    clause: str = ""
    angle: Way | None = None
    """Of the direction it asks for; None where it asks for ratings or nothing."""


@dataclass(frozen=True)
class ConditioningSchedule:
    """The rounds of DPA (Wang et al. 2024, arXiv:2402.18571, section 3.2).

    Round 0 trains on the data's own responses, their ratings in the prompt, as SteerLM does. Round 1 samples under
    several ratings that go together in the data; later rounds sample under directions drawn on the arc or cap. The
    paper does not say how round 1 chooses its ratings: here responses fall into bins of the second reward, and each bin
    asks for its median and the top decile of the first.
    """

    directions: int = 5
    """Directions per prompt that samples are drawn under; `generation.num_samples` under each."""
    targets: int = 5
    """Ratings per prompt that round 1 samples under."""
    rated_start: bool = True
    """False leaves the SteerLM round out: the policy is sampled under directions from the first round on."""

    def __post_init__(self) -> None:
        if min(self.directions, self.targets) < 1:
            raise ConfigError("conditions.directions and conditions.targets must be at least 1")

    def rated(self, number: int) -> bool:
        """Tell whether a round takes the data's own responses."""
        return self.rated_start and number == 0

    def asks(self, number: int) -> str:
        """Return what the prompts of a round's records ask for."""
        return "ratings" if self.rated(number) else "direction"

    def asked(
        self, number: int, example: str, conditioning: Conditioning, *, seed: int, targets: Sequence[Rating]
    ) -> list[SampleCondition]:
        """Return the conditions that a prompt of a round is sampled under; `example` is its id."""
        if self.rated(number):
            return [SampleCondition()]
        if self.rated_start and number == 1:
            return [SampleCondition(conditioning.ratings(target)) for target in targets]
        drawn = conditioning.region.draw(stream_of(seed, number, example, "asked"), self.directions)
        return [SampleCondition(conditioning.direction(angle), angle) for angle in drawn]


def rating_targets(
    points: Sequence[Sequence[float]], count: int, *, top: float = TOP, cap: Cap | None = None
) -> list[Rating]:
    """Return ratings that go together in the data.

    Of two rewards: the median of every bin of the second, with a percentile of the first within it. Bins hold as many
    responses each, the least of the second reward first. Of more: in each of `count` directions spread over the cap,
    the medians of the responses at or above that percentile of v . r. Raises DataError for too few responses.
    """
    table: Float[np.ndarray, "response reward"] = np.asarray(points, dtype=np.float64)
    known = table[~np.isnan(table).any(1)] if len(table) else table
    if len(known) < count:
        raise DataError(f"round 0 has {len(known)} rated responses, too few for {count} targets: lower targets")
    if cap is not None:
        worth = [known @ np.array(way) for way in cap.even(count)]
        return [tuple(map(float, np.median(known[w >= np.percentile(w, top)], axis=0))) for w in worth]
    parts = np.array_split(known[np.argsort(known[:, 1], kind="stable")], count)
    return [(float(np.percentile(part[:, 0], top)), float(np.median(part[:, 1]))) for part in parts]


def note(conditions: ConditioningSchedule, number: int, targets: Sequence[Rating]) -> dict[str, Any]:
    """Return what a model folder tells of the prompts its last round was trained on."""
    asks = conditions.asks(number)
    return {"asks": asks, "targets": [list(t) for t in targets] if asks == "ratings" else []}
