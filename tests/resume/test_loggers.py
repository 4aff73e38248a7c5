"""Whatever a run logs to, its folder is whole, the same command goes on, and report, export and card are complete."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from align.cli.main import main
from align.evaluation.run_reader import read_run, read_series
from tests.resume.runs import KILLED, Run, same
from tests.resume.test_exact import NINE, command

LOGGERS: dict[str, Any] = {
    "csv": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "elsewhere"}},
    "wandb": {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"project": "p"}},
    "mlflow": {"class_path": "lightning.pytorch.loggers.MLFlowLogger", "init_args": {"experiment_name": "e"}},
    "none": False,
}
LOGGERS["several"] = [LOGGERS["csv"], LOGGERS["mlflow"], LOGGERS["wandb"]]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow asks for it


def runs_with(logger: str, pairs: Path, model: Path, folder: Path) -> tuple[Run, Run]:
    """One run to be left alone and one to be cut, of one epoch of ten batches, saved at every third."""
    settings = folder / f"{logger}.yaml"
    settings.write_text(yaml.safe_dump({"trainer": {"logger": LOGGERS[logger]}}))
    arguments = [*command(pairs, model, "-c", str(settings)), "--trainer.max_epochs", "1"]
    arguments += ["--trainer.val_check_interval", "5"]
    return Run(folder / "whole", arguments), Run(folder / "cut", arguments)


@pytest.mark.parametrize(
    "logger", [pytest.param(name, marks=[] if name == "none" else [pytest.mark.slow]) for name in sorted(LOGGERS)]
)
def test_a_run_goes_on_and_its_folder_is_whole(
    logger: str, tmp_path: Path, model_folder: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = runs_with(logger, pairs_file, model_folder, tmp_path)
    assert whole() == 0, whole.log
    assert cut(("batch_end", 5, NINE)) == KILLED, cut.log
    assert (cut.root / "config.yaml").is_file()
    assert json.loads((cut.root / "checkpoints" / "last.json").read_text())["step"] == 3
    assert cut(("batch_start", 4, int(signal.SIGTERM))) == 143, cut.log  # at batch 7: goes on from 3, not from 0
    assert cut() == 0, cut.log
    same(whole, cut)
    assert cut() == 2
    assert "holds a finished run" in cut.log
    complete(whole, cut)
    wrote(logger)
    page = tmp_path / "report.html"
    assert main(["report", str(cut.root), "--out", str(page)]) == 0
    text = page.read_text()
    assert "train/loss, DPO over optimiser steps" in text
    assert "<h2>Samples" in text
    assert main(["export", "--run", str(cut.root), "--out", str(tmp_path / "again")]) == 0
    assert metrics_of(tmp_path / "again") == metrics_of(whole.root / "model") >= {"val/loss", "train/loss"}


def metrics_of(model: Path) -> set[str]:
    """The names of the metrics on a model's card."""
    return set(re.findall(r"^\| ((?:train|val)/[\w/]+) \|", (model / "README.md").read_text(), re.MULTILINE))


def complete(whole: Run, cut: Run) -> None:
    """Compare what two runs left for reports: every step once, the same numbers, samples of three moments."""
    one, two = read_series(whole.root), read_series(cut.root)
    assert one.keys() == two.keys()
    assert one["train/loss"].steps == list(range(9))
    for name in ("train/loss", "train/grad_norm", "val/loss", "train/rewards/margins"):
        assert one[name] == two[name], name
    found = read_run(cut.root)
    assert found is not None
    assert len(found.samples) == 1  # of one prompt
    assert metrics_of(whole.root / "model") == metrics_of(cut.root / "model")
    assert "trainer:" in (cut.root / "model" / "README.md").read_text()  # the card has the run's settings


def wrote(logger: str) -> None:
    """The real packages hold what they were given: numbers, and the table of samples where they show one."""
    if logger in ("csv", "several"):
        assert "train/loss" in next(Path("elsewhere").rglob("metrics.csv")).read_text()
    if logger in ("mlflow", "several"):
        rows = [path.read_text().splitlines() for path in Path("mlruns").rglob("metrics/train/loss")]
        assert max(map(len, rows)) == 9
        assert "| prompt | completion |" in next(Path("mlruns").rglob("samples/step-0.md")).read_text()
    if logger in ("wandb", "several"):
        table = json.loads(next(Path("wandb").rglob("media/table/samples*.json")).read_text())
        assert table["columns"] == ["prompt", "completion"]


def test_settings_are_saved_by_fit_only(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    run, _ = runs_with("none", pairs_file, model_folder, tmp_path)
    assert run() == 0, run.log
    before = (run.root / "config.yaml").read_text()
    validate = ["validate", *run.words[1:], "--ckpt_path", str(run.root / "checkpoints" / "last.ckpt")]
    os.environ.pop("PL_GLOBAL_SEED", None)
    run.words = validate
    assert run() == 0, run.log
    assert (run.root / "config.yaml").read_text() == before


def test_another_checkpoint_folder_is_gone_on_from(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    whole, cut = runs_with("csv", pairs_file, model_folder, tmp_path)
    for run in (whole, cut):
        run.words += [
            "--trainer.callbacks+",
            "align.callbacks.checkpoint.Checkpoint",
            "--trainer.callbacks.every_n_steps",
            "3",
        ]
        run.words += ["--trainer.callbacks.dirpath", str(tmp_path / "kept" / run.root.name)]
    assert cut(("batch_end", 5, NINE)) == KILLED, cut.log
    assert cut() == 0, cut.log
    assert [place for _, place, _ in cut.batches()] == list(range(9))
    assert cut.journal.read_text().count("\n") == 5 + 6  # steps 4 to 9 after the kill, none of the first three again
