"""The logger that every run has: numbers and sample tables in files of the run folder."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from align.evaluation.run_log import METRICS, TABLES, append


class RunLogger(Logger):
    """Writes `metrics.jsonl` and `samples.jsonl`, which `align report` reads, whatever else is logged to."""

    name, version = "", ""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append the numbers of a step."""
        numbers = {name: float(value) for name, value in metrics.items() if not isinstance(value, str)}
        append(self.folder / METRICS, {"step": step or 0, **numbers})

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *arguments: Any, **options: Any) -> None:
        """Write nothing: `config.yaml` has them."""

    @rank_zero_only
    def log_text(
        self, key: str, columns: Sequence[str], data: Sequence[Sequence[str]], *, step: int | None = None
    ) -> None:
        """Append a table, called as Lightning's WandbLogger is."""
        append(
            self.folder / TABLES,
            {"step": step or 0, "name": key, "columns": list(columns), "rows": [list(row) for row in data]},
        )
