"""`align check` where there are no weights, no data, or no cards."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from align.cli.main import main
from benchmarks.gpu.shapes import LLAMA_8B
from tests.test_configs import METHOD


@pytest.fixture
def shape(tmp_path: Path) -> str:
    return LLAMA_8B.folder(tmp_path / "8b")


def test_a_configuration_alone(shape: str, pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", "PreferenceFileDataModule", "--data.path", str(pairs_file)]
    gpu = ["--trainer.accelerator", "gpu", "--trainer.devices", "8"]
    lora = ["--model.backbone.lora.r", "16", "--model.backbone.dtype", "bfloat16"]
    assert main(["check", "-c", METHOD, *data, *gpu, *lora, "--model.backbone.path", shape]) == 0
    text = capsys.readouterr().out
    assert "8,072,204,288 parameters, 41,943,040 of them trained" in text  # 32 layers of 1,310,720 at rank 16
    assert "rank 0, " in text
    assert "64 FSDP2 in each 8" in text
    assert text.index("RTX4090-24GB") < text.index("hours") + 2000
    assert text.rstrip().endswith("scores, gradients and samples were not compared")


def test_settings_that_fit_are_written(shape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "8b" / "tokenizer.json").unlink()
    (tmp_path / "8b" / "tokenizer_config.json").unlink()
    out = tmp_path / "fits.yaml"
    given = ["check", "-c", METHOD, "--model.backbone.path", shape, "--fit_into", "8xH100-80GB", "--out", str(out)]
    assert main(given) == 0
    assert "fit into 8xH100-80GB" in capsys.readouterr().out
    assert yaml.safe_load(out.read_text())["trainer"]["devices"] == 8


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fit_into"], "--fit_into: expected a value, such as 8xH100-80GB"),
        (["--fit_into", "8xH100", "--out="], "--out: expected a value"),
        (["--out", "x.yaml"], "--out is where --fit_into writes"),
        (["--fit_into", "8xQ100"], "'Q100' is not known"),
        (["--fit_into", "8xH100", "--trainer.precision", "64-true"], "64-true: its memory is not known"),
    ],
)
def test_what_cannot_be_planned(words: list[str], told: str, shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", METHOD, "--model.backbone.path", shape, *words]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.bad_input
def test_a_model_with_weights_needs_data(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", METHOD, "--model.backbone.path", str(model_folder)]) == 2
    assert "required: --data" in capsys.readouterr().err
