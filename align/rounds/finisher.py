"""Finishes one round whose samples are there: scores what is missing, builds, writes, seals."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from align.data.row_validation import text_fault
from align.data.source import Report
from align.errors import DataError
from align.records import Conditioning, Example, Message
from align.records.reward_directions import Way
from align.rewards.reward_model_reading import refuse_not_finite
from align.rewards.scorers import Direction
from align.rounds.directional_selection import RatedRows
from align.rounds.manifest import manifest
from align.rounds.round_file import write_round
from align.rounds.round_store import RoundRow, RoundStore, StoredSample
from align.rounds.scored_samples import PromptSamples, ScoredSample
from align.rounds.settings import RoundSettings
from align.sampling.generation import Request

SCORED_TOGETHER = 256
"""Samples whose rewards are committed at a time."""


class RoundPrompt(NamedTuple):
    """A prompt of a round, under one condition."""

    example: Example
    request: Request
    angle: Way | None = None
    """Of the direction the request asks for."""

    @property
    def hash(self) -> str:
        """Return a hash of its tokens."""
        return hashlib.sha256(repr(list(self.request.ids)).encode()).hexdigest()[:16]


class Finisher:
    """Makes the records of one round of samples that are in the store."""

    def __init__(
        self, store: RoundStore, path: Path, settings: RoundSettings, number: int, conditioning: Conditioning | None
    ) -> None:
        self.store, self.path, self.settings = store, path, settings
        self.number, self.conditioning = number, conditioning
        self.direction = settings.direction
        if conditioning is not None:  # a sample is worth something only where both rewards are known
            middle = conditioning.region.middle_weights
            self.direction = Direction(dict(zip(conditioning.attributes, middle, strict=True)))

    def finish(self, prompts: Sequence[RoundPrompt], data: Sequence[Example], *, own: bool, seconds: float) -> RoundRow:
        """Score, build, write and seal; `own` tells that the samples are the data's own responses."""
        self._score(prompts)
        samples = self.store.samples(self.number)
        report = Report(read=len({p.example.id for p in prompts}))
        drawn = self._drawn(prompts, samples, report)
        selection = RatedRows() if own else self.settings.selection
        made = selection.build(drawn, report)
        report.kept = len(made)
        if not made:
            raise DataError(f"round {self.number} gives nothing to train on: {report}")
        replay, seed = self.settings.replay, self.settings.generation.seed
        mixed = replay is not None and not own
        records = replay.mix(made, data, seed=seed, round_number=self.number) if replay and mixed else made
        sha256 = write_round(self.path, records)
        note = manifest(drawn, samples, made, records=records, report=report, seconds=seconds)
        note["scorer"] = self.settings.scorer.report()
        self.store.seal(self.number, len(records), sha256, note)
        row = self.store.round(self.number)
        assert row is not None
        return row

    def _score(self, prompts: Sequence[RoundPrompt]) -> None:
        """Score what has no score yet, committing as it goes; equal responses to a prompt are scored once.

        A scorer that compares gets all samples of a prompt at once, each as often as it was drawn.
        """
        if self.settings.scorer.compares:
            self._score_together(prompts)
            return
        scorer, examples = self.settings.scorer, {p.request.id: p.example for p in prompts}
        samples = self.store.samples(self.number)
        known = {(examples[s.prompt].id, s.text): s.scores for s in samples if s.scores is not None}
        left = [s for s in samples if s.scores is None]
        for first in range(0, len(left), SCORED_TOGETHER):
            part = left[first : first + SCORED_TOGETHER]
            new = {
                (e.id, s.text): e.messages for s in part if (e := examples[s.prompt]) and (e.id, s.text) not in known
            }
            if new:
                rows = self._scores(list(new.values()), [text for _, text in new])
                known |= dict(zip(new, rows, strict=True))
            scored = [s._replace(scores=known[examples[s.prompt].id, s.text]) for s in part]
            self.store.add_scores(self.number, scored, scorer.identity)

    def _score_together(self, prompts: Sequence[RoundPrompt]) -> None:
        """Score the samples of whole prompts, several prompts at a time; a judge keeps its replies itself."""
        examples, by_prompt = {p.request.id: p.example for p in prompts}, dict[str, list[StoredSample]]()
        for sample in self.store.samples(self.number):
            by_prompt.setdefault(examples[sample.prompt].id, []).append(sample)
        left = [group for group in by_prompt.values() if any(s.scores is None for s in group)]
        while left:
            part: list[StoredSample] = []
            while left and (not part or len(part) + len(left[0]) <= SCORED_TOGETHER):
                part += left.pop(0)
            rows = self._scores([examples[s.prompt].messages for s in part], [s.text for s in part])
            scored = [s._replace(scores=row) for s, row in zip(part, rows, strict=True)]
            self.store.add_scores(self.number, scored, self.settings.scorer.identity)

    def _scores(self, prompts: Sequence[Sequence[Message]], texts: Sequence[str]) -> list[tuple[float, ...]]:
        """Return finite scores, or NaN where there is none."""
        scorer = self.settings.scorer
        scores = scorer.score(prompts, texts)
        infinite = scores.where(~scores.isnan(), scores.new_zeros(()))  # NaN says that there is no score
        refuse_not_finite(type(scorer).__name__, scorer.attributes, prompts, infinite)
        return [tuple(row) for row in scores.tolist()]

    def _drawn(
        self, prompts: Sequence[RoundPrompt], samples: Sequence[StoredSample], report: Report
    ) -> list[PromptSamples]:
        """Return the prompts that have a usable sample; unusable samples are counted by reason."""
        by_request: dict[str, list[StoredSample]] = {}
        for sample in samples:
            by_request.setdefault(sample.prompt, []).append(sample)
        grouped: dict[str, list[RoundPrompt]] = {}
        for prompt in prompts:
            grouped.setdefault(prompt.example.id, []).append(prompt)
        found = []
        for name, asked in grouped.items():
            candidates = self._candidates([by_request.get(p.request.id, []) for p in asked], report)
            if candidates:
                found.append(self._of_prompt(asked, candidates))
            else:
                report.drop("prompt without a usable sample", name)
        return found

    def _of_prompt(self, asked: Sequence[RoundPrompt], candidates: tuple[ScoredSample, ...]) -> PromptSamples:
        seed, attributes = self.settings.generation.seed, self.settings.scorer.attributes
        angles = tuple(p.angle for p in asked)
        return PromptSamples(asked[0].example, candidates, attributes, self.number, seed, self.conditioning, angles)

    def _candidates(self, groups: Sequence[Sequence[StoredSample]], report: Report) -> tuple[ScoredSample, ...]:
        """Return the usable samples of a prompt, numbered over all its conditions."""
        found, number = [], 0
        for group, samples in enumerate(groups):
            for sample in samples:
                candidate = self._candidate(sample, number, group)
                if isinstance(candidate, str):
                    report.drop(candidate, f"{sample.prompt} sample {sample.number}")
                else:
                    found.append(candidate)
                number += 1
        return tuple(found)

    def _candidate(self, sample: StoredSample, number: int, group: int) -> ScoredSample | str:
        assert sample.scores is not None
        penalty = self.settings.missing_eos_penalty
        cut = sample.finish == "length"
        if fault := text_fault(sample.text):
            return f"sample: {fault}"
        if cut and penalty is None:
            return "sample: cut off at its limit"
        reward = self.direction.of(self.settings.scorer.attributes, sample.scores) - (penalty or 0.0) * cut
        if not math.isfinite(reward):
            return "sample: no reward"
        return ScoredSample(number, sample.text.strip(), sample.finish, sample.scores, reward, group)
