"""`StopAt` ends a run where Lightning's `max_steps` does."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
from lightning.pytorch.demos.boring_classes import BoringModel

from align.callbacks.stop_at import StopAt


def steps(**options: Any) -> int:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(accelerator="cpu", limit_train_batches=4, limit_val_batches=0, **quiet, **options)
    trainer.fit(BoringModel())
    return trainer.global_step


@pytest.mark.parametrize("least", [{}, {"min_steps": 1}, {"min_epochs": 2}, {"min_epochs": 3, "min_steps": 5}])
@pytest.mark.parametrize("limit", [3, 6])
def test_it_goes_before_the_least_steps_and_epochs_as_max_steps_does(limit: int, least: dict[str, int]) -> None:
    expected = steps(max_steps=limit, max_epochs=4, **least)
    assert steps(max_epochs=4, callbacks=[StopAt(limit)], **least) == expected == limit
