"""Settings and checkpoints of a run that are not what the run wrote."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from align.cli.main import main
from tests.test_configs import CPU, METHOD
from tests.tiny import save_tiny, write_pairs

pytestmark = pytest.mark.bad_input

SHORT = ("--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1")


class TestRuns:
    @pytest.fixture(scope="class")
    def finished(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
        root = tmp_path_factory.mktemp("runs")
        model, pairs = save_tiny(root / "tiny"), write_pairs(root / "pairs.jsonl", 40)
        words = ["fit", "-c", METHOD, "-c", CPU, "--data", "PreferenceFileDataModule", "--data.path", str(pairs)]
        words += ["--model.backbone.path", str(model), *SHORT]
        assert main([*words, "--trainer.default_root_dir", str(root / "run")]) == 0
        return root / "run", words

    @pytest.fixture
    def run(self, finished: tuple[Path, list[str]], tmp_path: Path) -> Path:
        copy = tmp_path / "copy"
        shutil.copytree(finished[0], copy)
        (copy / "finished.json").unlink()
        return copy

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            ("", "its settings are damaged (config.yaml names no model)"),
            ("# nothing\n", "its settings are damaged (config.yaml names no model)"),
            ("- a\n", "its settings are damaged (config.yaml names no model)"),
            ("text\n", "its settings are damaged (config.yaml names no model)"),
            ("trainer: {}\n", "its settings are damaged (config.yaml names no model)"),
            ("model: null\n", "its settings are damaged (config.yaml names no model)"),
            ("model: [1]\n", "its settings are damaged (config.yaml names no model)"),
            ("a: [\n", "its settings are damaged (config "),
            ("\x00", "its settings are damaged (config "),
            (
                "model: !!python/object/apply:os.system [x]\n",
                "is not allowed: write plain values): put config.yaml back",
            ),
        ],
    )
    def test_settings(self, told, finished, run: Path, content: str, line: str) -> None:
        (run / "config.yaml").write_text(content)
        assert line in told("export", "--run", str(run), "--out", str(run / "out"))

    @pytest.mark.parametrize("content", ["", "a: [\n", "model: [1]\n"])
    def test_settings_of_a_run_to_go_on_with(self, told, finished, run: Path, content: str) -> None:
        (run / "config.yaml").write_text(content)
        assert "its settings are damaged" in told(*finished[1], "--trainer.default_root_dir", str(run))
        assert "config.yaml: " in told("report", str(run))

    def test_a_pipe_for_settings(self, told, finished, run: Path) -> None:
        (run / "config.yaml").unlink()
        os.mkfifo(run / "config.yaml")
        assert "not a regular file" in told(*finished[1], "--trainer.default_root_dir", str(run))

    @pytest.mark.parametrize(
        "content", [[1, 2], {"state_dict": {}}, {"state_dict": Path("x")}], ids=["list", "less", "code"]
    )
    def test_checkpoints(self, told, finished, run: Path, content: object) -> None:
        checkpoint = run / "checkpoints" / "last.ckpt"
        checkpoint.with_suffix(".json").unlink()
        torch.save(content, checkpoint)
        assert str(checkpoint) in told(*finished[1], "--trainer.default_root_dir", str(run))
        line = told("export", "--run", str(run), "--out", str(run / "out"))
        assert "damaged checkpoint, or not one of ours" in line
        assert not (run / "out").exists()


def test_scores_that_are_no_labels_of_the_objective_end_training_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ratings from 1 to 10 for SPPO, which takes win rates: it was a traceback of the loss."""
    rows = [{"prompt": f"p{n}", "completions": ["yes", "no"], "scores": [7, 3]} for n in range(4)]
    (tmp_path / "ratings.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["fit", "-c", METHOD.replace("dpo", "sppo"), "-c", CPU, "--data", "PreferenceFileDataModule", *SHORT]
    words += ["--data.path", str(tmp_path / "ratings.jsonl"), "--data.splits.val_fraction", "0"]
    words += ["--model.backbone.path", str(save_tiny(tmp_path / "tiny")), "--trainer.default_root_dir", "run"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "align fit: labels must be win rates in [0, 1], got values from 3 to 7" in told
    assert "Traceback" not in told
