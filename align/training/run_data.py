"""What a method reads of the data module of its run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from lightning.pytorch import Trainer

from align.checks.checked_rows import Groups
from align.records import CandidateBatch, Instructions, PromptFormat
from align.records.asking import Scores


class LabelledGroups(Groups, Protocol):
    """Encoded groups, their weights and the scores of their candidates."""

    weights: np.ndarray
    table: Any
    """Columns by name."""

    def __len__(self) -> int:
        """Return how many groups there are."""


class RunData(Protocol):
    """Rows that are read, viewed and encoded; `align.data.data_module.PreferenceDataModule` is one."""

    fingerprint: str
    streaming: bool
    """Whether training rows are read as they are needed."""
    asks: Instructions | Scores | None
    """How a model that is trained on the rows is asked, but for the prompt."""

    @property
    def groups(self) -> Mapping[str, LabelledGroups]:
        """Return the groups of every split."""

    @property
    def worlds(self) -> dict[str, dict[str, Any]]:
        """Return the settings of the synthetic worlds that sources are of, by the source."""

    @property
    def prompt_format(self) -> PromptFormat:
        """Return how prompts are written."""

    @property
    def max_tokens(self) -> int:
        """Return the longest prompt with a response, in tokens."""

    @property
    def step_groups(self) -> int:
        """Return the groups of an optimiser step."""

    @property
    def training_source(self) -> object | None:
        """Return what makes training data while the run goes on."""

    def train_dataloader(self) -> Any:
        """Return the steps of training."""

    def all_batches(self) -> Iterator[CandidateBatch]:
        """Yield every training and validation group once."""

    def refuse_stream(self, what: str) -> None:
        """Raise ConfigError where training rows are streamed, and something needs all of them."""


def data_of(trainer: Trainer) -> RunData | None:
    """Return the data module of a run; None where batches come from loaders, or from a data module of another kind."""
    found: RunData | None = getattr(trainer, "datamodule", None)
    return found if hasattr(found, "fingerprint") else None
