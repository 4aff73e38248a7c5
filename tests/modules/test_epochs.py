"""Checkpoints of Lightning's own callback, saved at the last batch of an epoch: going on twice repeats no epoch."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.callbacks import ModelCheckpoint

from align.models.backbone import Backbone
from align.modules.sft import SFTModule
from tests.modules.fitting import fit, pairs_data


def test_a_run_that_went_on_from_an_epochs_last_batch_goes_on_again(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    def losses(name: str, epochs: int, resumed: str | None = None) -> list[float]:
        saver = ModelCheckpoint(tmp_path / name, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        data = pairs_data(pairs_file, groups=10)
        options = {"max_epochs": epochs, "callbacks": [saver], "enable_checkpointing": True}
        return fit(SFTModule(Backbone(str(model_folder))), data, resumed, **options).series("train/loss")

    whole = losses("whole", 3)
    steps = len(whole) // 3
    last = str(tmp_path / "whole" / f"step={steps}.ckpt")
    assert losses("again", 3, last) == whole[steps:]
    assert losses("twice", 3, str(tmp_path / "again" / f"step={steps + 1}.ckpt")) == whole[steps + 1 :]
