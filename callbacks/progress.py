"""A progress bar with the few numbers one watches, under short names."""

from __future__ import annotations

import sys

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

SHORT = {
    "train/loss": "loss",
    "train/accuracy": "accuracy",
    "train/rewards/accuracies": "accuracy",
    "train/margin": "margin",
    "train/rewards/margins": "margin",
    "train/tokens_per_second": "tok/s",
}


class Progress(TQDMProgressBar):
    """Shows loss, accuracy, margin and tokens per second."""

    def __init__(self, refresh_rate: int | None = None) -> None:
        """Configure the bar.

        Args:
            refresh_rate: Batches between updates; null updates at each on a terminal and every fiftieth in a log.
        """
        super().__init__(refresh_rate=refresh_rate or (1 if sys.stderr.isatty() else 50))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that a message after it has a line of its own."""
        if self._train_progress_bar is not None:
            self._train_progress_bar.close()

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the numbers after the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        shown = {SHORT[name]: value for name, value in metrics.items() if name in SHORT}
        return {name: round(v) if name == "tok/s" and isinstance(v, float) else v for name, v in shown.items()}
