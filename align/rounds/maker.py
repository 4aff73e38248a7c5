"""Makes one round: samples what is missing, scores what is missing, builds, writes, seals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from align.distributed import gather, on_first, rank, world_size
from align.errors import ResumeError
from align.records import Conditioning, Example
from align.rounds.finisher import Finisher, RoundPrompt
from align.rounds.round_file import read_round
from align.rounds.round_store import RoundRow, RoundStore, StoredSample
from align.rounds.settings import RoundSettings
from align.sampling.engine import Engine
from align.sampling.generation import Sample
from align.sampling.sampler import Batch, Sampler, SamplingProgress


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
        self,
        number: int,
        prompts: Sequence[RoundPrompt],
        data: Sequence[Example],
        engine: Engine | None,
        *,
        policy: str,
        conditioning: Conditioning | None = None,
    ) -> RoundRow:
        """Make a round that is not sealed, or finish it, and return it sealed.

        Args:
            number: Of the round.
            prompts: Its prompts, once per condition they are sampled under.
            data: Records that replay draws from.
            engine: Draws the samples, with the weights `policy` is the hash of; null takes the data's own responses.
            policy: Hash of the weights.
            conditioning: How conditions are written, in rounds that have some.

        Raises ResumeError where the round was begun with other weights or settings.
        """
        fingerprint = self.settings.fingerprint(conditioning, [(p.request.id, p.hash) for p in prompts])
        known = on_first(lambda: self._begin(number, policy, fingerprint))
        began = time.perf_counter()
        if engine is None:
            on_first(lambda: self._take(number, prompts))
        else:
            self._draw(number, prompts, {(s.prompt, s.number) for s in known}, engine)
        seconds = time.perf_counter() - began

        def finish() -> RoundRow:
            finisher = Finisher(self._store, self.path(number), self.settings, number, conditioning)
            return finisher.finish(prompts, data, own=engine is None, seconds=seconds)

        return on_first(finish)

    def scores(self, number: int) -> list[tuple[float, ...]]:
        """Return the scores of a sealed round's samples."""
        return on_first(lambda: [s.scores or () for s in self._store.samples(number)])

    @property
    def _store(self) -> RoundStore:
        assert self.store is not None
        return self.store

    def _begin(self, number: int, policy: str, fingerprint: str) -> list[StoredSample]:
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

    def _take(self, number: int, prompts: Sequence[RoundPrompt]) -> None:
        """Keep the data's own responses as samples."""
        rows = [
            StoredSample(p.request.id, place, p.hash, [], text, "eos")
            for p in prompts
            for place, text in enumerate(p.example.responses)
        ]
        self._store.add(number, rows)

    def _draw(self, number: int, prompts: Sequence[RoundPrompt], known: set[tuple[str, int]], engine: Engine) -> None:
        """Draw the batches that lack a sample, each process its own, and commit each; none is put together anew."""
        sampler = Sampler(engine, self.settings.generation, round_number=number)
        hashes = {p.request.id: p.hash for p in prompts}
        plan = sampler.plan([p.request for p in prompts])
        missing = [b for b in plan if any((j.request.id, k) not in known for j in b for k in j.numbers)]
        size = world_size()
        with SamplingProgress(_count(missing), shown=rank() == 0, title=f"round {number}: sampling") as progress:
            for first in range(0, len(missing), size):
                own = missing[first + rank() : first + rank() + 1]
                drawn = [(job_id, s) for batch in own for job_id, s in _named(batch, sampler)]
                found = [pair for part in gather(drawn) for pair in part]
                rows = [StoredSample(name, s.number, hashes[name], s.ids, s.text, s.finish) for name, s in found]
                on_first(lambda rows=rows: self._store.add(number, rows))  # type: ignore[misc]
                progress.update([s for _, s in found])


def _named(batch: Batch, sampler: Sampler) -> list[tuple[str, Sample]]:
    names = {job.place: job.request.id for job in batch}
    return [(names[s.prompt], s) for s in sampler.draw(batch)]


def _count(batches: Sequence[Batch]) -> int:
    return sum(len(job.numbers) for batch in batches for job in batch)
