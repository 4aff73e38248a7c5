"""Records under conditions: the best sample in a direction, and responses under their own ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from align.data.source import Report
from align.errors import ConfigError
from align.records import Conditioning, Example
from align.records.reward_directions import Way, along
from align.rounds.scored_samples import PromptSamples, ScoredSample
from align.rounds.selections import Selection


@dataclass(frozen=True)
class DirectionalRejectionSampling(Selection):
    """The sample of the highest v . r under the direction v (DPA, Wang et al. 2024, arXiv:2402.18571, Eq. 3)."""

    directions: int = 5
    """Directions per prompt that are drawn anew, where the selection is over the pool."""
    among: Literal["group", "pool"] = "group"
    """`group`, the paper's: among the samples of a direction, the best one in it. `pool`: newly drawn directions, each
    with the best of all samples of the prompt. Samples that were asked for by ratings are always a pool."""

    writes_conditions = True

    def __post_init__(self) -> None:
        if self.directions < 1:
            raise ConfigError(f"selection.directions must be at least 1, got {self.directions}")

    def build(self, drawn: Sequence[PromptSamples], report: Report) -> list[Example]:
        """Return a record per prompt and direction; directions without a usable sample are counted."""
        return [record for prompt in drawn for record in self.of_prompt(prompt, report)]

    def of_prompt(self, drawn: PromptSamples, report: Report) -> list[Example]:
        """Return the records of one prompt."""
        conditioning = _conditioning(drawn, "DirectionalRejectionSampling")
        columns = [drawn.attributes.index(name) for name in conditioning.attributes]
        names = ["angle"] if conditioning.cap is None else [f"v {name}" for name in conditioning.attributes]
        records = []
        for place, (way, pool) in enumerate(self._pools(drawn, conditioning)):
            if not pool:
                report.drop("direction without a usable sample", f"{drawn.example.id} direction {place}")
                continue
            worth = [along(way, [c.scores[i] for i in columns]) for c in pool]
            best = pool[max(range(len(pool)), key=lambda i: (worth[i], -pool[i].number))]
            record = drawn.record([best], [0], f"#{place}")
            records.append(
                replace(
                    record,
                    messages=conditioning.apply(drawn.example.messages, conditioning.direction(way)),
                    attributes=(*drawn.attributes, *names, "reward", "reward_mean"),
                    scores=((*best.scores, *(way if isinstance(way, tuple) else (way,)), max(worth), fmean(worth)),),
                )
            )
        return records

    def _pools(self, drawn: PromptSamples, conditioning: Conditioning) -> list[tuple[Way, list[ScoredSample]]]:
        """Return directions with the samples each is chosen from."""
        asked = [angle for angle in drawn.angles if angle is not None]
        if self.among == "group" and asked:
            return [(angle, [c for c in drawn.candidates if c.group == k]) for k, angle in enumerate(asked)]
        ways = conditioning.region.draw(drawn.stream("directions"), self.directions)
        return [(way, list(drawn.candidates)) for way in ways]


@dataclass(frozen=True)
class RatedRows(Selection):
    """Every response under its own ratings (SteerLM, Dong et al. 2023, arXiv:2310.05344)."""

    writes_conditions = True
    takes_data = True

    def build(self, drawn: Sequence[PromptSamples], report: Report) -> list[Example]:
        """Return a record per response."""
        records = []
        for prompt in drawn:
            conditioning = _conditioning(prompt, "RatedRows")
            columns = [prompt.attributes.index(name) for name in conditioning.attributes]
            for candidate in prompt.candidates:
                clause = conditioning.ratings([candidate.scores[i] for i in columns])
                record = prompt.record([candidate], [0], f"#{candidate.number}")
                records.append(
                    replace(
                        record,
                        messages=conditioning.apply(prompt.example.messages, clause),
                        attributes=prompt.attributes,
                        scores=(candidate.scores,),
                        origins=("data",),
                    )
                )
        return records


def direction_metrics(records: Sequence[Example]) -> dict[str, float]:
    """Return mean rewards v . r over DPA's records: of the chosen sample, of its pool, and the gain."""
    rows = [dict(zip(e.attributes, e.scores[0], strict=True)) for e in records if "reward_mean" in e.attributes]
    if not rows:
        return {}
    asked = {name: fmean(r[name] for r in rows) for name in rows[0] if name == "angle" or name.startswith("v ")}
    best, mean = fmean(r["reward"] for r in rows), fmean(r["reward_mean"] for r in rows)
    return {"reward": mean, "reward_best": best, "gain": best - mean, **asked}


def _conditioning(drawn: PromptSamples, name: str) -> Conditioning:
    if drawn.conditioning is None:
        raise ConfigError(
            f"selection {name} needs conditions: set align.callbacks.resampling.IterativeResampling.conditions"
        )
    return drawn.conditioning
