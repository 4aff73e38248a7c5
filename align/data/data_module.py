"""The LightningDataModule behind every dataset: sources, a view, an encoding, batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, cast

from align.data.batching import Batching
from align.data.encoded_groups import EncodedGroups
from align.data.encoding import EncodingConfig
from align.data.fitting import check_view, view_of_method
from align.data.label_columns import Parts, join, mean_labels, name_labels
from align.data.loader import BatchLoader
from align.data.loaders import ServingDataModule, TrainingSource
from align.data.needs import Needs, PredictingMethod
from align.data.preparing import Found, prepare
from align.data.source import Report, Source
from align.data.splits import Splits, check_fractions, divide_source
from align.data.steps import refuse_accumulation, tell_lines
from align.data.stream import Stream
from align.data.streaming import check_streaming, check_trainer, check_window, open_stream
from align.data.telling import tell
from align.data.views import View
from align.distributed import meet
from align.encoding.encoder import Encoder
from align.encoding.put import Put
from align.errors import ConfigError
from align.records import Example, Instructions, Labels, PromptFormat
from align.records.asking import Scores
from align.world.world_file import file_world


class PreferenceDataModule(ServingDataModule):
    """Serves batches of candidate groups from one or more sources."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        view: View | None = None,
        encoding: EncodingConfig = EncodingConfig(),
        batching: Batching = Batching(),
        splits: Splits = Splits(),
        attributes: list[str] | None = None,
        seed: int | None = None,
        streaming: bool = False,
    ) -> None:
        """Describe the data.

        Args:
            sources: Where examples come from.
            view: What to make of an example; null takes the view of the method (pairs for DPO, and so on).
            encoding: Template, truncation, cache.
            batching: Groups of an optimiser step, and tokens in memory at once.
            splits: How validation and test data are set apart.
            attributes: Labels to use, in this order; null takes all the data has. Where sources of several kinds have
                labels, names begin with the kind: `hs-helpfulness`, `uf-helpfulness`.
            seed: Decides batches and their order; null takes the run's seed (`seed_everything`).
            streaming: Read training rows as they are needed, from JSONL or Parquet shards or from the hub, and keep
                nothing of them on disk. An epoch is one pass; `trainer.max_steps` has to say how many steps a run has.
        """
        super().__init__()
        if not sources:
            raise ConfigError("data.sources is empty: name at least one source")
        self.sources, self.view, self.encoding = list(sources), view, encoding
        self.batching, self.splits, self.seed = batching, splits, seed
        self.chosen_attributes, self.streaming = attributes, streaming
        check_window(batching.shuffle_window, streaming=streaming)
        self.stream: Stream | None = None
        self.labels = Labels()
        self.reports: dict[str, Report] = {}
        self.encoder: Encoder | None = None
        self.groups: dict[str, EncodedGroups] = {}
        self.fingerprint = ""
        self.asks: Instructions | Scores | None = None  # how a model trained on this is asked, but for the prompt
        self.needs: Needs | None = None
        self.usual_step, self.reads_others, self.reads_steps = 1, False, False  # what the method says
        self._told = {}
        self.training_source: TrainingSource | None = None

    def setup(self, stage: str) -> None:
        """Read, view and encode every split; with a warm cache only open it."""
        meet()
        if not self.groups and self.trainer is not None:
            refuse_accumulation(self.trainer, stage)
            check_trainer(self.trainer, stage, streaming=self.streaming)
            self.connect(self.trainer.lightning_module)  # type: ignore[arg-type]
            tell(self.reports, self.groups, self.template_told())
            if stage == "fit" and self.training_source is None:
                tell_lines(self.steps_told())
        meet()  # one process of a machine reads and encodes what another machine may have already

    def connect(self, needs: Needs, put: Put | None = None) -> None:
        """Prepare all splits for a module. Called by `setup`; call it yourself to use the data without a Trainer.

        Args:
            needs: The module.
            put: What goes into every prompt beside what the view puts there.
        """
        view = self.view_of(needs)
        self.needs, self.usual_step = needs, needs.step_groups
        self.reads_others, self.reads_steps = needs.reads_others, needs.reads_steps
        check_fractions(self.sources, self.splits)
        if self.streaming:
            check_streaming(self)
        self.encoder = self.encoding.encoder(needs, put)
        keys: list[str] = []
        parts: Parts = {split: [] for split in ("train", "val", "test")}
        for source in self.sources:
            found, of = self._tables(source, view)
            for split, (tables, report) in found.items():
                parts[split].extend((source, table) for table in tables)
                if tables:
                    self.reports[f"{source.name}/{split}"] = report
            keys.extend(of)
        self.asks = view.asks([table for _, table in parts["train"]])
        named, labels = name_labels(parts, self.chosen_attributes)
        self.groups = join(named, labels.attributes)
        self.labels = labels._replace(means=mean_labels(self.groups))
        needs.take_labels(self.labels)
        self.fingerprint = hashlib.sha256(" ".join([*keys, *labels.attributes]).encode()).hexdigest()[:16]

    @property
    def worlds(self) -> dict[str, dict[str, Any]]:
        """Return the settings of the synthetic worlds that sources are of, by the source; most are of none."""
        found = {f"data {source.path}": file_world(source.path) for source in self.sources}
        return {name: settings for name, settings in found.items() if settings is not None}

    def view_of(self, needs: Needs) -> View:
        """Return what is made of an example: the view that was asked for, or the method's. Raises ConfigError."""
        method = type(needs).__name__
        check_view(self.view, needs.view, method)
        return self.view or view_of_method(needs.view, method)

    def _tables(self, source: Source, view: View) -> tuple[Found, list[str]]:
        """Return what is made of a source, its first rows where it is streamed, and hashes of what decides it."""
        assert self.encoder is not None
        if self.streaming:
            self.stream, found, key = open_stream(self, source, view)
            return found, [key]
        preparation = prepare(source, view, self.splits, self.encoder, self.encoding)
        return preparation.tables(), list(preparation.keys.values())

    def template_told(self) -> tuple[str, ...]:
        """Return what a user should know of the template."""
        assert self.encoder
        return self.encoder.template.told

    @property
    def prompt_format(self) -> PromptFormat:
        """Return how prompts are written, for the model folder."""
        assert self.encoder
        return PromptFormat(self.encoder.template.eos_id, self.encoder.template.jinja)

    @property
    def max_tokens(self) -> int:
        """Return the longest prompt with a response, in tokens."""
        assert self.encoder
        return self.encoder.truncation.max_total

    def prompts(self, count: int) -> list[list[int]]:
        """Return the ids of the first prompts of the validation split, or of the training split without one."""
        groups = self.groups.get("val") or self.groups["train"]
        return [group.prompt_ids for group in groups[range(min(count, len(groups)))]]

    def examples(self, split: str = "val") -> list[Example]:
        """Return the examples of a split as they are read, before any view or token; of a stream the first ones."""
        if self.stream:
            return self.stream.examples(split)
        return [e for source in self.sources for e in divide_source(source, self.splits)[split][0]]

    def predict_dataloader(self) -> BatchLoader:
        """Return the validation batches, or the training batches where there are none, asked as the model is asked.

        How that is may stand in a checkpoint, which Trainers read only after `setup`.
        """
        if self.trainer is not None:
            module = cast(PredictingMethod, self.trainer.lightning_module)
            asked = module.ask_predicted(views=self.asks is not None)
            put = Put(asked.apply, asked.chat_template_kwargs) if asked.puts or asked.chat_template_kwargs else None
            if put or (self.encoder and self.encoder.put):
                self.connect(module, put)
        return super().predict_dataloader()
