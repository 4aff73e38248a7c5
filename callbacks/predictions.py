"""Writes what `align predict` computes as JSONL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from align.callbacks.run_parts import module_of
from align.records.asking import Ask
from align.strict_json import json_text


class PredictionFile(Callback):
    """Writes one line per candidate to `predictions.jsonl` in the run folder, one file per process.

    Responses are scored behind prompts as the model is asked: as its checkpoint says, or its folder; `asked` names what
    that is beside the prompt. HIR's modules score under both instructions; views that write scores or markers into
    prompts bring their own.
    """

    writes_one_file = True  # of two in a run only the last counts

    def __init__(self, ask: Ask = Ask()) -> None:
        """Configure the predictions.

        Args:
            ask: How the model is asked where that is not its own way.
        """
        self.ask = ask

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell the model, before its data is read, how it is asked."""
        if stage == "predict":
            module_of(pl_module, self).ask = self.ask

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an empty file."""
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        suffix = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        self._path = folder / f"predictions{suffix}.jsonl"
        self._path.write_text("")

    def on_predict_batch_end(  # noqa: PLR0917
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append the candidates of a batch."""
        with self._path.open("a", encoding="utf-8") as file:
            told = module_of(pl_module, self).predicted.told
            asked = {"asked": told} if told else {}
            for row in outputs:
                print(json_text({**row, **asked}, ascii_only=True), file=file)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where they are."""
        rank_zero_info(f"predictions written to {self._path}")
