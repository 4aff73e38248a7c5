"""Makes one round: samples what is missing, scores what is missing, builds, writes, seals."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.utilities import rank_zero_info

from align.data.fields import text_fault
from align.data.source import Report
from align.errors import DataError, ResumeError
from align.records import Example
from align.rounds.candidates import Candidate, Drawn
from align.rounds.files import read_round, write_round
from align.rounds.manifest import manifest
from align.rounds.ranks import gather, on_first, rank, world_size
from align.rounds.settings import RoundSettings
from align.rounds.store import RoundRow, RoundStore, Stored
from align.sampling.engine import Engine
from align.sampling.generation import Request, Sample
from align.sampling.sampler import Batch, Progress, Sampler

SCORED_TOGETHER = 256
"""Samples whose rewards are committed at a time."""


class Prompt(NamedTuple):
    """A prompt of a round."""

    example: Example
    request: Request

    @property
    def hash(self) -> str:
        """Return a hash of its tokens."""
        return hashlib.sha256(repr(list(self.request.ids)).encode()).hexdigest()[:16]


class RoundMaker:
    """Keeps the rounds of one run in a folder."""

    def __init__(self, folder: Path, settings: RoundSettings) -> None:
        self.folder, self.settings = folder, settings
        self.store = RoundStore(folder / "rounds.sqlite") if rank() == 0 else None

    def path(self, number: int) -> Path:
        """Return where a round's file is."""
        return self.folder / f"round-{number:04d}.jsonl"

    def sealed(self, number: int) -> str | None:
        """Return the hash of a sealed round's file, None for a round that is not done."""
        row = on_first(lambda: self._store.round(number))
        return row.sha256 if row else None

    def read(self, number: int, sha256: str) -> list[Example]:
        """Return the records of a sealed round. Raises StoreError where file and seal disagree."""
        return on_first(lambda: read_round(self.path(number), sha256))

    def make(
        self, number: int, prompts: Sequence[Prompt], data: Sequence[Example], engine: Engine, policy: str
    ) -> RoundRow:
        """Make a round that is not sealed, or finish it, and return it sealed.

        Args:
            number: Of the round.
            prompts: Its prompts.
            data: Records that replay draws from.
            engine: Draws the samples, with the weights `policy` is the hash of.
            policy: Hash of the weights.

        Raises ResumeError where the round was begun with other weights or settings.
        """
        fingerprint = self.settings.fingerprint([(p.request.id, p.hash) for p in prompts])
        known = on_first(lambda: self._begin(number, policy, fingerprint))
        began = time.perf_counter()
        self._draw(number, prompts, {(s.prompt, s.number) for s in known}, engine)
        return on_first(lambda: self._finish(number, prompts, data, time.perf_counter() - began))

    @property
    def _store(self) -> RoundStore:
        assert self.store is not None
        return self.store

    def _begin(self, number: int, policy: str, fingerprint: str) -> list[Stored]:
        """Begin a round, or go on with it; return the samples it has."""
        row = self._store.round(number)
        if row is None:
            self._store.begin(number, policy, fingerprint)
            return []
        for name, was, now in (("weights", row.policy, policy), ("settings or prompts", row.settings, fingerprint)):
            if was != now:
                raise ResumeError(
                    f"round {number} in {self.folder} was begun with other {name} ({was} then, {now} now): go on from "
                    "the checkpoint and with the settings it was begun with, or begin a new run"
                )
        found = self._store.samples(number)
        rank_zero_info(f"round {number}: going on, {len(found)} samples are there")
        return found

    def _draw(self, number: int, prompts: Sequence[Prompt], known: set[tuple[str, int]], engine: Engine) -> None:
        """Draw the batches that lack a sample, each process its own, and commit each; none is put together anew."""
        sampler = Sampler(engine, self.settings.generation, round_number=number)
        hashes = {p.request.id: p.hash for p in prompts}
        plan = sampler.plan([p.request for p in prompts])
        missing = [b for b in plan if any((j.request.id, k) not in known for j in b for k in j.numbers)]
        size = world_size()
        with Progress(_count(missing), shown=rank() == 0, title=f"round {number}: sampling") as progress:
            for first in range(0, len(missing), size):
                own = missing[first + rank() : first + rank() + 1]
                drawn = [(job_id, s) for batch in own for job_id, s in _named(batch, sampler)]
                found = [pair for part in gather(drawn) for pair in part]
                rows = [Stored(name, s.number, hashes[name], s.ids, s.text, s.finish) for name, s in found]
                on_first(lambda rows=rows: self._store.add(number, rows))  # type: ignore[misc]
                progress.update([s for _, s in found])

    def _finish(self, number: int, prompts: Sequence[Prompt], data: Sequence[Example], seconds: float) -> RoundRow:
        """Score, build, write and seal."""
        self._score(number, prompts)
        samples = self._store.samples(number)
        report = Report(read=len(prompts))
        drawn = self._candidates(number, prompts, samples, report)
        own = self.settings.builder.build(drawn, report)
        report.kept = len(own)
        if not own:
            raise DataError(f"round {number} gives nothing to train on: {report}")
        seed = self.settings.generation.seed
        replay = self.settings.replay
        records = own if replay is None else replay.mix(own, data, seed=seed, round_number=number)
        sha256 = write_round(self.path(number), records)
        note = manifest(drawn, samples, own, records=records, report=report, seconds=seconds)
        self._store.seal(number, len(records), sha256, note)
        row = self._store.round(number)
        assert row is not None
        return row

    def _score(self, number: int, prompts: Sequence[Prompt]) -> None:
        """Score what has no score yet, committing as it goes."""
        scorer, messages = self.settings.scorer, {p.request.id: p.example.messages for p in prompts}
        left = [s for s in self._store.samples(number) if s.scores is None]
        for first in range(0, len(left), SCORED_TOGETHER):
            part = left[first : first + SCORED_TOGETHER]
            rows = scorer.score([messages[s.prompt] for s in part], [s.text for s in part]).tolist()
            scored = [s._replace(scores=tuple(row)) for s, row in zip(part, rows, strict=True)]
            self._store.add_scores(number, scored, scorer.identity)

    def _candidates(
        self, number: int, prompts: Sequence[Prompt], samples: Sequence[Stored], report: Report
    ) -> list[Drawn]:
        """Return the prompts that have a usable sample; unusable samples are counted by reason."""
        by_prompt: dict[str, list[Candidate]] = {p.request.id: [] for p in prompts}
        attributes = self.settings.scorer.attributes
        for sample in samples:
            candidate = self._candidate(sample, attributes)
            if isinstance(candidate, str):
                report.drop(candidate, f"{sample.prompt} sample {sample.number}")
            else:
                by_prompt[sample.prompt].append(candidate)
        found, seed = [], self.settings.generation.seed
        for prompt in prompts:
            candidates = tuple(by_prompt[prompt.request.id])
            if candidates:
                found.append(Drawn(prompt.example, candidates, attributes, number, seed))
            else:
                report.drop("prompt without a usable sample", prompt.example.id)
        return found

    def _candidate(self, sample: Stored, attributes: tuple[str, ...]) -> Candidate | str:
        assert sample.scores is not None
        penalty = self.settings.missing_eos_penalty
        cut = sample.finish == "length"
        if fault := text_fault(sample.text):
            return f"sample: {fault}"
        if cut and penalty is None:
            return "sample: cut off at its limit"
        reward = self.settings.direction.of(attributes, sample.scores) - (penalty or 0.0) * cut
        if not math.isfinite(reward):
            return "sample: no reward"
        return Candidate(sample.number, sample.text.strip(), sample.finish, sample.scores, reward)


def _named(batch: Batch, sampler: Sampler) -> list[tuple[str, Sample]]:
    names = {job.place: job.request.id for job in batch}
    return [(names[s.prompt], s) for s in sampler.draw(batch)]


def _count(batches: Sequence[Batch]) -> int:
    return sum(len(job.numbers) for batch in batches for job in batch)
