"""Settings out of range, settings that contradict the data, and the names of checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.cli.main import main

SAVER = ["--trainer.callbacks+", "align.callbacks.checkpoint.Checkpoint"]
HELD_OUT = ["--data.splits.val_fraction", "0.2"]


@pytest.mark.parametrize(
    ("extra", "line"),
    [
        (["--trainer.accumulate_grad_batches", "0"], "--trainer.accumulate_grad_batches must be at least 1, got 0"),
        (["--trainer.gradient_clip_val", "-1"], "--trainer.gradient_clip_val must be at least 0, got -1"),
        (["--trainer.log_every_n_steps", "-1"], "--trainer.log_every_n_steps must be at least 0, got -1"),
        (["--trainer.max_epochs", "-2"], "`max_epochs` must be a non-negative integer or -1"),
        (["--trainer.max_epochs", "-1"], "set trainer.max_epochs or trainer.max_steps"),
        (["--trainer.max_steps", "-5"], "`max_steps` must be a non-negative integer or -1"),
        (["--trainer.limit_train_batches", "-1"], "invalid value -1 for limit_train_batches"),
        (["--trainer.devices", "0"], "devices='0'"),
        (["--seed_everything", "-1"], "--seed_everything must lie in [0, 4294967295], got -1"),
        (["--data.batching.num_workers", "-1"], "batching.num_workers must not be negative, got -1"),
        (["--data.encoding.num_proc", "0"], "encoding.num_proc must be at least 1, got 0"),
        (["--model.optimizer.weight_decay", "-1"], "optimizer.weight_decay must not be negative, got -1.0"),
        (["--model.optimizer.adam_beta1", "1.5"], "optimizer.adam_beta1 must lie in [0, 1), got 1.5"),
        (["--model.optimizer.adam_epsilon", "-1"], "optimizer.adam_epsilon must not be negative, got -1.0"),
        (["--model.optimizer.learning_rate", "nan"], "--model.optimizer.learning_rate: expected float, got 'nan'"),
        (["--model.optimizer.learning_rate", ".inf"], "learning_rate must be positive and finite, got inf"),
        (["--ckpt_path", ""], "--ckpt_path '': no such file"),
        ([*HELD_OUT, "--trainer.val_check_interval", "1000"], "`val_check_interval` (1000) must be less than or equal"),
        ([*HELD_OUT, "--trainer.val_check_interval", "1.5"], "invalid value 1.5 for val_check_interval"),
        ([*SAVER, "--trainer.callbacks.every_n_steps", "0"], "every_n_steps must be at least 1, got 0"),
        ([*SAVER, "--trainer.callbacks.save_top_k", "3"], "No quantity for top_k to track"),
        ([*SAVER, "--trainer.callbacks.mode", "maximum"], "`mode` can be min, max but got maximum"),
        ([*SAVER, "--trainer.callbacks.filename", "../../x"], "filename '../../x' is no file name"),
        ([*SAVER, "--trainer.callbacks.filename", "{step"], "filename '{step' is no file name"),
        (
            [*HELD_OUT, *SAVER, "--trainer.callbacks.monitor", "val/los"],
            "no metric is called 'val/los', did you mean 'val/loss'?",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_faults(told, fit_words: list[str], extra: list[str], line: str) -> None:
    assert line in told(*fit_words, *extra)


def test_a_metric_with_a_slash_makes_no_folder(fit_words: list[str], tmp_path: Path) -> None:
    name = ["--trainer.callbacks.monitor", "val/loss", "--trainer.callbacks.filename", "{epoch}-{val/loss:.2f}"]
    root = ["--trainer.default_root_dir", str(tmp_path / "run")]
    assert main([*fit_words, *HELD_OUT, *SAVER, *name, *root]) == 0
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"last.ckpt", "last.json", "epoch=0-val_loss=0.69.ckpt", "epoch=0-val_loss=0.69.json"}


@pytest.mark.parametrize(
    "extra",
    [
        ["--trainer.max_steps", "3"],
        ["--trainer.max_steps", "3", "--trainer.max_epochs", "5"],
        ["--trainer.max_steps", "3", "--trainer.max_epochs", "-1"],
    ],
)
def test_max_steps_alone_and_with_epochs(fit_words: list[str], tmp_path: Path, extra: list[str]) -> None:
    from tests.test_configs import scalars

    batches = ["--data.batching.groups", "4"]
    assert main([*fit_words, *batches, *extra, "--trainer.default_root_dir", str(tmp_path / "run")]) == 0
    assert len(scalars(tmp_path / "run", "train/loss")) == 3
