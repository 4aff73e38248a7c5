"""Writes the trained model as a folder when training ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from align.callbacks.run_parts import module_of
from align.errors import ConfigError
from align.files import check_place
from align.records.asking import Ask


class HFExport(Callback):
    """Exports the model at the end of training: a full folder or an adapter folder, with tokenizer and card."""

    acts_last = True  # a callback that averages weights puts the average into the model at the end of training too

    def __init__(self, folder: str | None = None, merge: bool = False, ask: Ask = Ask()) -> None:
        """Configure the export.

        Args:
            folder: Where to write; null writes `model` in the run folder.
            merge: Add LoRA adapters to the weights and write a full folder.
            ask: What the model is asked with from now on beside what its method trains it under, such as a system text
                or steering vectors, which go into the folder; every verb asks so by default.
        """
        self.folder, self.merge, self.ask = folder, merge, ask

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a place that cannot take the model before training, not after it."""
        if stage != "fit":
            return
        try:
            check_place(self._place(trainer))
        except FileExistsError as error:
            raise ConfigError(
                f"{error.filename}: {error.strerror}, where the model goes: move it away, or set the folder of "
                "align.callbacks.hf_export.HFExport"
            ) from error

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        root, folder = Path(trainer.default_root_dir), self._place(trainer)
        module = module_of(pl_module, self)
        module.ask = self.ask
        module.export(folder, merge=self.merge, config=_saved_config(root))
        rank_zero_info(f"model written to {folder}")

    def _place(self, trainer: Trainer) -> Path:
        return Path(self.folder) if self.folder else Path(trainer.default_root_dir) / "model"


def _saved_config(root: Path) -> dict[str, Any] | None:
    """Return the configuration the command line saved in the run folder, if it did."""
    path = root / "config.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() and os.path.getsize(path) else None
