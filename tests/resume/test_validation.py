"""A kill or a stop around a validation within an epoch: it is run and logged, and every callback sees its numbers."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader

from align.callbacks.checkpoint import Checkpoint
from align.evaluation.run_log import METRICS, read_numbers
from tests.resume.runs import KILLED, Run, same
from tests.resume.test_exact import NINE, command

OFTEN = [
    *("--trainer.val_check_interval", "3", "--trainer.max_epochs", "2", "--trainer.callbacks.monitor", "val/loss"),
    *("--trainer.callbacks.save_top_k", "2", "--trainer.callbacks+", "lightning.pytorch.callbacks.EarlyStopping"),
    *("--trainer.callbacks.monitor", "val/loss", "--trainer.callbacks.patience", "50"),
]
"""Nine steps an epoch, a validation and a checkpoint after every third."""
TERM = int(signal.SIGTERM)


def kept(run: Run) -> dict[str, Any]:
    """Return what callbacks have counted: best scores and checkpoints by their names, and how often nothing was gained."""
    states = torch.load(run.root / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    (stopping,) = (state for name, state in states.items() if name.startswith("EarlyStopping"))
    (checkpoint,) = (state for state in states.values() if "best_k_models" in state)
    best = {Path(path).name: float(score) for path, score in checkpoint["best_k_models"].items()}
    return {"stopping": stopping, "best": best, "score": checkpoint["best_model_score"]}


def alike(whole: Run, cut: Run) -> None:
    """Assert equal weights and batches, validation metrics, counts and scores, all to the bit."""
    same(whole, cut)
    one, two = (read_numbers(run.root / METRICS) for run in (whole, cut))
    validated = {name: values for name, values in one.items() if name.startswith("val/")}
    assert len(validated["val/loss"]) == 6
    assert validated == {name: values for name, values in two.items() if name.startswith("val/")}
    assert str(kept(whole)) == str(kept(cut))
    files = [sorted(path.name for path in (run.root / "checkpoints").glob("*.ckpt")) for run in (whole, cut)]
    assert files[0] == files[1]


class Ended(Callback):
    """Stands for a kill: the process is gone in the middle of the count-th validation."""

    def __init__(self, count: int) -> None:
        self.left = count

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.left -= not trainer.sanity_checking
        if not self.left:
            raise InterruptedError


class Valley(LightningModule):
    """Logs 4, 0, 4, 16 in the validations after steps 2, 4, 6 and 8."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.ones(20, 2))

    val_dataloader = train_dataloader

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("x", float((self.trainer.global_step - 4) ** 2))


def counted(end: int, resume: str | None = None) -> tuple[int, float, float]:
    """Train eight steps with a validation and a checkpoint after every second; return what callbacks have counted."""
    saving = Checkpoint(every_n_steps=2, monitor="x", dirpath="checkpoints")
    stopping = EarlyStopping("x", patience=50)
    limits = {"max_epochs": 1, "limit_train_batches": 9, "limit_val_batches": 1, "val_check_interval": 2}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(**limits, **quiet, callbacks=[saving, stopping, Ended(end)])
    trainer.fit(Valley(), ckpt_path=resume)
    return stopping.wait_count, float(stopping.best_score), float(saving.best_model_score)


@pytest.mark.parametrize("cut", [2, 3, 4])
def test_a_validation_that_was_cut_off_is_run_again(cut: int) -> None:
    with pytest.raises(InterruptedError):
        counted(cut)
    last = "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=False)["global_step"] == 2 * (cut - 1)
    assert counted(0, last) == (2, 0.0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kills",
    [
        [("validation_start", 2, NINE), ("validation_end", 1, NINE)],
        [("validation_batch", 4, NINE), ("validation_batch", 2, NINE)],
        [("batch_end", 3, TERM), ("validation_start", 3, TERM)],
        [("batch_end", 9, TERM), ("batch_end", 3, TERM), ("batch_end", 6, TERM)],
    ],
    ids=["kills", "within", "stops", "stop_at_the_end"],
)
def test_no_validation_is_lost(kills: list, tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    arguments = command(pairs_file, model_folder, *OFTEN, method="sft")
    whole, cut = Run(tmp_path / "whole", arguments), Run(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    for kill in kills:
        assert cut(kill) == (KILLED if kill[2] == NINE else 128 + TERM), cut.log
    assert cut() == 0, cut.log
    alike(whole, cut)


@pytest.mark.slow
def test_random_kills_around_validations(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    arguments = command(pairs_file, model_folder, *OFTEN, method="sft")
    whole, draw, killed = Run(tmp_path / "whole", arguments), random.Random(0), 0
    assert whole() == 0, whole.log
    for number in range(2):
        cut, code = Run(tmp_path / f"cut{number}", arguments), KILLED
        while code in (KILLED, 128 + TERM):
            moment = draw.choice(["validation_start", "validation_batch", "validation_end", "batch_end", "save"])
            code = cut((moment, draw.randint(1, 5), draw.choice([NINE, TERM])))
            killed += code in (KILLED, 128 + TERM)
        assert code == 0, cut.log
        alike(whole, cut)
    assert killed >= 4
