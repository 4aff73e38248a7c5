"""A progress bar with the few numbers one watches, under short names."""

from __future__ import annotations

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

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the numbers after the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        shown = {SHORT[name]: value for name, value in metrics.items() if name in SHORT}
        return {name: round(v) if name == "tok/s" and isinstance(v, float) else v for name, v in shown.items()}
