"""The LightningDataModule behind every dataset: sources, a view, an encoding, batches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from align.data.batching import Batching, TokenBudget
from align.data.encoded import FORMAT, encode, load_cached, write_note
from align.data.encoding import Encoding
from align.data.fitting import check_view
from align.data.groups import EncodedGroups, Table
from align.data.hindsight import Hindsight
from align.data.loader import BatchLoader, BatchOrder, Share
from align.data.naming import Parts, join, mean_labels, name_labels
from align.data.needs import Needs
from align.data.scored_lists import SCORED_VIEWS
from align.data.source import Report, Source
from align.data.splits import Divided, Splits, check_fractions, divide_source
from align.data.telling import tell
from align.data.views import VIEWS, View
from align.encoding.encoder import Encoder
from align.errors import ConfigError, DataError
from align.records import CandidateBatch, Example, Labels, PromptFormat


class PreferenceDataModule(L.LightningDataModule):
    """Serves batches of candidate groups from one or more sources."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        view: View | None = None,
        encoding: Encoding = Encoding(),
        batching: Batching = TokenBudget(),
        splits: Splits = Splits(),
        attributes: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        """Describe the data.

        Args:
            sources: Where examples come from.
            view: What to make of an example; null takes the view of the method (pairs for DPO, and so on).
            encoding: Template, truncation, cache.
            batching: Batches by token budget or of a fixed size.
            splits: How validation and test data are set apart.
            attributes: Labels to use, in this order; null takes all the data has. Where sources of several kinds have
                labels, names begin with the kind: `hs-helpfulness`, `uf-helpfulness`.
            seed: Decides batches and their order; null takes the run's seed (`seed_everything`).
        """
        super().__init__()
        if not sources:
            raise ConfigError("data.sources is empty: name at least one source")
        self.sources, self.view, self.encoding = list(sources), view, encoding
        self.batching, self.splits, self.seed = batching, splits, seed
        self.chosen_attributes = attributes
        self.labels = Labels()
        self.reports: dict[str, Report] = {}
        self.encoder: Encoder | None = None
        self.groups: dict[str, EncodedGroups] = {}
        self.fingerprint = ""
        self.rounds: Any = None  # an align.rounds.feed.RoundFeed, where the run makes its own training data

    def setup(self, stage: str) -> None:
        """Read, view and encode every split; with a warm cache only open it."""
        if not self.groups and self.trainer is not None:
            self.connect(self.trainer.lightning_module)  # type: ignore[arg-type]
            tell(self.reports, self.groups, self.template_told())

    def connect(self, needs: Needs) -> None:
        """Prepare all splits for a module. Called by `setup`; call it yourself to use the data without a Trainer."""
        view = self.view_of(needs)
        check_fractions(self.sources, self.splits)
        self.encoder = self.encoding.encoder(needs)
        keys: list[str] = []
        parts: Parts = {split: [] for split in ("train", "val", "test")}
        for source in self.sources:
            divided: Divided = {}
            for split, tables in parts.items():
                key = self._key(source, view, split)
                tables.extend((source, table) for table in self._encoded(source, view, split, key, divided))
                keys.append(key)
        named, labels = name_labels(parts, self.chosen_attributes)
        self.groups = join(named, labels.attributes)
        self.labels = needs.labels = labels._replace(means=mean_labels(self.groups))
        self.fingerprint = hashlib.sha256(" ".join([*keys, *labels.attributes]).encode()).hexdigest()[:16]

    def view_of(self, needs: Needs) -> View:
        """Return what is made of an example: the view that was asked for, or the method's. Raises ConfigError."""
        check_view(self.view, needs.view, type(needs).__name__)
        return self.view or {**VIEWS, **SCORED_VIEWS, "hindsight": Hindsight()}[needs.view]

    @property
    def run_seed(self) -> int:
        """Return the seed of the data, or the run's."""
        return int(os.environ.get("PL_GLOBAL_SEED", "0")) if self.seed is None else self.seed

    @property
    def attributes(self) -> tuple[str, ...]:
        """Return the names of the columns of the batches' scores."""
        return self.labels.attributes

    def _key(self, source: Source, view: View, split: str) -> str:
        assert self.encoder is not None
        parts = (FORMAT, source.fingerprint(), repr(view), self.splits, split, self.encoder.fingerprint)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]

    def _encoded(self, source: Source, view: View, split: str, key: str, divided: Divided) -> list[Table]:
        """Return the encoded groups of one split of one source, none where it has no such split.

        `divided` is filled when the first split is missing from the cache.
        """
        folder = Path(self.encoding.cache_dir)
        label = f"{source.name}/{split}"
        if (cached := load_cached(folder, key)) is not None:
            tables, report = cached
            if tables:
                self.reports[label] = report
            return tables
        if not divided:
            divided.update(divide_source(source, self.splits))
        examples, report = divided[split]
        if not examples and split != "train":
            write_note(report, folder, key)
            return []
        groups = view.apply(examples, report)
        self.reports[label] = report
        if not groups:
            raise DataError(f"data.path {source.path}: no {type(view).__name__} in the {split} split: {report}")
        report.check(source.path)
        assert self.encoder is not None
        return [encode(groups, self.encoder, report, folder=folder, key=key, num_proc=self.encoding.num_proc)]

    def template_told(self) -> tuple[str, ...]:
        """Return what a user should know of the template."""
        assert self.encoder
        return self.encoder.template.told

    @property
    def prompt_format(self) -> PromptFormat:
        """Return how prompts are written, for the model folder."""
        assert self.encoder
        return PromptFormat(self.encoder.template.eos_id, self.encoder.template.jinja)

    def prompts(self, count: int) -> list[list[int]]:
        """Return the ids of the first prompts of the validation split, or of the training split without one."""
        groups = self.groups.get("val") or self.groups["train"]
        return [group.prompt_ids for group in groups[range(min(count, len(groups)))]]

    def examples(self, split: str = "val") -> list[Example]:
        """Return the examples of a split as they are read, before any view or token."""
        return [e for source in self.sources for e in divide_source(source, self.splits)[split][0]]

    def all_batches(self) -> Iterator[CandidateBatch]:
        """Yield every training and validation group once, this rank's share of them."""
        for split in ("train", "val"):
            if split in self.groups:
                yield from self.batches_of(split)

    def batches_of(self, split: str) -> BatchLoader:
        """Return this rank's share of the batches of a split, in order."""
        return self._loader(split, shuffle=False)

    def train_dataloader(self) -> BatchLoader:
        """Return the training batches, shuffled by (seed, epoch)."""
        return self._loader("train", shuffle=True) if self.rounds is None else self.rounds.loader(self)

    def val_dataloader(self) -> BatchLoader | list[Any]:
        """Return the validation batches, none when no data is set apart."""
        return self._loader("val", shuffle=False) if "val" in self.groups else []

    def test_dataloader(self) -> BatchLoader:
        """Return the test batches."""
        if "test" not in self.groups:
            raise ConfigError("the data has no test split: set data.splits.test_fraction, or use data that ships one")
        return self._loader("test", shuffle=False)

    def predict_dataloader(self) -> BatchLoader:
        """Return the validation batches, or the training batches where there are none."""
        return self._loader("val" if "val" in self.groups else "train", shuffle=False)

    def _loader(self, split: str, *, shuffle: bool) -> BatchLoader:
        order = self.order(self.groups[split], split, shuffle=shuffle)
        return BatchLoader(order, self.fingerprint, self.batching.num_workers)

    def order(self, groups: EncodedGroups, split: str, *, shuffle: bool) -> BatchOrder:
        """Return the order of batches of any groups, for this process."""
        trainer = self.trainer
        share = Share(accumulate=1 if split == "train" else None)
        if trainer is not None:
            accumulate = trainer.accumulate_grad_batches if split == "train" else None
            share = Share(trainer.global_rank, trainer.world_size, accumulate)
        return BatchOrder(groups, self.batching, self.run_seed, shuffle=shuffle, share=share)
