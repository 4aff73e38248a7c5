"""When checkpoints are saved."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer

from align.callbacks import checkpoint
from align.callbacks.checkpoint import Checkpoint
from align.errors import ConfigError
from tests.resume.test_validation import Valley


class Clock(Callback):
    """A step takes 25 seconds; notes the steps at which something is saved."""

    def __init__(self) -> None:
        self.seconds, self.saved = 1000.0, list[int]()

    def on_train_batch_start(self, *_: Any) -> None:
        self.seconds += 25

    def on_save_checkpoint(self, trainer: Trainer, *_: Any) -> None:
        self.saved.append(trainer.global_step)


@pytest.mark.parametrize(("steps", "minutes", "saved"), [(None, 1, [3, 6, 9]), (4, 1, [3, 4, 7, 8]), (None, 2.5, [6])])
def test_minutes_count_from_the_last_save(
    steps: int | None, minutes: float, saved: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 steps are 75 s, the first that are a minute; at 4, a step count, the clock begins anew: 7, then 8, then 11."""
    clock = Clock()
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: clock.seconds))
    saving = Checkpoint(every_n_steps=steps, every_n_minutes=minutes, dirpath="checkpoints", save_top_k=0)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    Trainer(max_epochs=1, limit_train_batches=12, limit_val_batches=0, **quiet, callbacks=[saving, clock]).fit(Valley())
    assert [step for step in clock.saved if step < 11] == saved


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_minutes_are_above_zero(minutes: float) -> None:
    with pytest.raises(ConfigError, match="every_n_minutes must be above 0"):
        Checkpoint(every_n_minutes=minutes)
