"""A selection of ranked lists: the record's own responses and a new sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from align.records import Example
from align.rounds.scored_samples import PromptSamples, ScoredSample
from align.rounds.selections import PromptSelection

Placing = Literal["resort", "cap", "drop", "free"]


@dataclass(frozen=True)
class AppendAndRerank(PromptSelection):
    """The record's own responses and one new sample, ranked anew: self-bootstrapping of PRO.

    Song et al. 2023, arXiv:2306.17492, Algorithm 1 with footnote 6: the new sample may not take rank 1. The record's
    responses must have scores by the same reward model, best first.
    """

    placing: Placing = "resort"
    """What happens to a sample that beats the best: `resort` ranks it second and deals the reward values out anew by
    rank, `cap` gives it the best one's reward, `drop` leaves it out, `free` lets it lead."""
    column: int = 0
    """Which score of the record's responses is the reward."""

    def of_prompt(self, drawn: PromptSamples) -> list[Example] | str:
        """Return one list."""
        example = drawn.example
        if not example.scores:
            return "the record's responses have no scores"
        rewards = [row[self.column] for row in example.scores]
        own = [
            ScoredSample(-1 - i, t, "eos", (), r)
            for i, (t, r) in enumerate(zip(example.responses, rewards, strict=True))
        ]
        own.sort(key=lambda c: -c.reward)
        new = drawn.candidates[0]
        if not new.text.strip() or new.text in example.responses:
            return "empty or repeated sample"
        if new.finish == "length":  # beside responses without tokens its text would be ended like theirs
            return "sample cut off at its limit"
        ranked = self._placed(own, new)
        if ranked is None:
            return "better than the best response"
        record = drawn.record(ranked, list(range(len(ranked))))
        origins = tuple("data" if c.number < 0 else f"policy@{drawn.round_number}" for c in ranked)
        return [replace(record, origins=origins, attributes=(example.attributes[self.column],))]

    def _placed(self, own: list[ScoredSample], new: ScoredSample) -> list[ScoredSample] | None:
        """Return the candidates with their rewards, best first; the record's own stay before equal ones."""
        if new.reward <= own[0].reward or self.placing == "free":
            return sorted([*own, new], key=lambda c: -c.reward)
        if self.placing == "drop":
            return None
        order = [own[0], new, *own[1:]]
        if self.placing == "cap":
            return [own[0], new._replace(reward=own[0].reward), *own[1:]]
        values = sorted((c.reward for c in order), reverse=True)
        return [c._replace(reward=value) for c, value in zip(order, values, strict=True)]
