"""A run whose reference is cached is validated and tested by itself: the numbers are those of a frozen copy."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch

from align.data.splits import Splits
from align.models.backbone import Backbone
from align.models.references import Cached, FrozenCopy, Reference
from align.modules.dpo import DPOModule
from tests.modules.fitting import pairs_data
from tests.modules.preference_runs import FAST


def validated(reference: Reference, folder: Path, pairs: Path, checkpoint: Path | None) -> dict[str, float]:
    """Return the metrics of a validation of two steps' weights, which are written first where there are none."""
    module = DPOModule(Backbone(str(folder)), reference=reference, optimizer=FAST)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_steps=2, limit_val_batches=0 if checkpoint is None else 1.0, **quiet)
    data = pairs_data(pairs, splits=Splits(0.3))
    if checkpoint is None:
        trainer.fit(module, data)
        trainer.save_checkpoint("two.ckpt")
        return {}
    (found,) = trainer.validate(module, data, ckpt_path=str(checkpoint), verbose=False)
    return dict(found)


def test_validation_alone_reads_the_cache(
    model_folder: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    validated(Cached(), model_folder, pairs_file, None)
    found, expected = (
        validated(kind, model_folder, pairs_file, tmp_path / "two.ckpt") for kind in (Cached(), FrozenCopy())
    )
    assert abs(expected["val/rewards/margins"]) > 1e-4  # the policy has moved away from the reference
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
