"""Writes the trained model as a folder when training ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info


class HFExport(Callback):
    """Exports the model at the end of training: a full folder or an adapter folder, with tokenizer and card."""

    def __init__(self, folder: str | None = None, merge: bool = False) -> None:
        """Configure the export.

        Args:
            folder: Where to write; null writes `model` in the run folder.
            merge: Add LoRA adapters to the weights and write a full folder.
        """
        self.folder, self.merge = folder, merge

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        root = Path(trainer.default_root_dir)
        folder = Path(self.folder) if self.folder else root / "model"
        module: Any = pl_module
        module.export(folder, merge=self.merge, config=_saved_config(root))
        rank_zero_info(f"model written to {folder}")


def _saved_config(root: Path) -> dict[str, Any] | None:
    """Return the configuration the command line saved in the run folder, if it did."""
    path = root / "config.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() and os.path.getsize(path) else None
