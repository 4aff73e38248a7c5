"""`align stages`: the stages of a method in a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.cli.main import main
from align.cli.stages import parse
from align.errors import ConfigError

METHODS = Path(__file__).parents[2] / "configs" / "method"


def test_words_go_to_their_stage() -> None:
    found = parse(["-s", "a.yaml", "--out", "o", "-s", "b.yaml", "--data", "X", "--2.model.x=1", "-c", "t.yaml", "--y"])
    assert found.files == ["a.yaml", "b.yaml"]
    assert found.common == ["--data", "X", "-c", "t.yaml", "--y"]
    assert found.own == {2: ["--model.x", "1"]}
    with pytest.raises(ConfigError, match=r"--3.x: there are stages 1..2"):
        parse(["-s", "a", "-s", "b", "--out", "o", "--3.x", "1"])
    with pytest.raises(ConfigError, match="at least two stages"):
        parse(["-s", "a", "--out", "o"])


def test_dual_in_one_command(model_folder: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        *("stages", "-s", str(METHODS / "rahf_dual_stage1.yaml"), "-s", str(METHODS / "rahf_dual.yaml")),
        *("--out", "runs/dual", "--data", "PreferenceFileDataModule", "--data.path", str(pairs_file)),
        *("--model.backbone.path", str(model_folder), "--trainer.limit_train_batches", "2"),
        *("--trainer.accelerator", "cpu", "--2.model.objective.alpha", "1.0"),
    ]
    assert main(words) == 0
    assert Path("runs/dual/2/model/adapter_model.safetensors").exists()
    assert "alpha: 1.0" in Path("runs/dual/2/config.yaml").read_text()
    capsys.readouterr()
    assert main(words) == 0  # nothing is left to do
    assert capsys.readouterr().out.count("finished already") == 2
