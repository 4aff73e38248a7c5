"""Short runs of a Trainer with a log of every metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from align.data.batching import Batching
from align.data.preference_file import PreferenceFileDataModule
from align.data.splits import Splits


class Log(Logger):
    """Keeps the metrics of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    name = "log"
    version = "0"

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append(metrics)

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass

    def series(self, name: str) -> list[float]:
        return [row[name] for row in self.rows if name in row]


def pairs_data(path: Path, groups: int = 4, **options: Any) -> PreferenceFileDataModule:
    options = {"batching": Batching(groups=groups, tokens=10**9), "splits": Splits(0), "seed": 0, **options}
    return PreferenceFileDataModule(str(path), **options)


def fit(module: L.LightningModule, data: L.LightningDataModule, ckpt_path: str | None = None, **options: Any) -> Log:
    log = Log()
    settings = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": log,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        **options,
    }
    L.seed_everything(0, verbose=False)
    L.Trainer(**settings).fit(module, data, ckpt_path=ckpt_path)
    return log
