"""The rounds of one run in a folder: a store of what was sampled and scored, and a sealed file for each."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from align.distributed import on_first, rank
from align.errors import ResumeError
from align.records import Example
from align.rounds.round_file import read_round
from align.rounds.round_store import NOTHING, RoundRow, RoundStore, StoredSample


class RoundFolder:
    """Where a run keeps its rounds; every process asks, the first one reads and writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened = RoundStore(folder / "rounds.sqlite") if rank() == 0 else None

    @property
    def store(self) -> RoundStore:
        """Return the store, which the first process alone has."""
        assert self._opened is not None
        return self._opened

    def path(self, number: int) -> Path:
        """Return where a round's file is."""
        return self.folder / f"round-{number:04d}.jsonl"

    def row(self, number: int) -> RoundRow | None:
        """Return what is known of a round, None before it is begun."""
        return on_first(lambda: self.store.round(number))

    def sealed(self, number: int) -> str | None:
        """Return the hash of a sealed round's file, None for a round that is not done."""
        row = self.row(number)
        return row.sha256 if row else None

    def read(self, number: int, sha256: str) -> list[Example]:
        """Return the records of a sealed round. Raises StoreError where file and seal disagree."""
        return on_first(lambda: read_round(self.path(number), sha256))

    def told(self, number: int, sha256: str) -> list[Example]:
        """Return the records of a sealed round where an engine told log-probabilities of them, else none."""
        return on_first(lambda: read_round(self.path(number), sha256) if self.store.has_logprobs(number) else [])

    def begin(self, number: int, policy: str, fingerprint: str) -> list[StoredSample]:
        """Begin a round, or go on with it; return the samples it has.

        Raises ResumeError where it was begun with other weights (`policy` is their hash) or settings.
        """
        return on_first(lambda: self._begin(number, policy, fingerprint))

    def _begin(self, number: int, policy: str, fingerprint: str) -> list[StoredSample]:
        row = self.store.round(number)
        if row is None:
            self.store.begin(number, policy, fingerprint)
            return []
        if NOTHING in row.manifest and (row.policy, row.settings) != (policy, fingerprint):
            rank_zero_info(f"round {number} gave nothing to train on: it is made anew, by what is set now")
            self.store.forget(number)
            self.store.begin(number, policy, fingerprint)
            return []
        for name, was, now in (("weights", row.policy, policy), ("settings or prompts", row.settings, fingerprint)):
            if was != now:
                raise ResumeError(
                    f"round {number} in {self.folder} was begun with other {name} ({was} then, {now} now): go on from "
                    "the checkpoint and with the settings it was begun with, or begin a new run"
                )
        found = self.store.samples(number)
        rank_zero_info(f"round {number}: going on, {len(found)} samples are there")
        return found
