"""`align check` where there are no weights, no data, or no cards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from align.cli.check_fit import told_cost
from align.cli.check_plan import Load
from align.cli.main import main
from align.sizing.groups import TypicalGroup
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
    assert main([*given, "--price_per_hour", "3"]) == 0
    told = capsys.readouterr().out
    assert "fit into 8xH100-80GB" in told
    rate = float(re.findall(r"(\d+) tokens/s of each card", told)[0])
    (million,) = re.findall(r"at 3 for a card and hour: ([\d.]+) for a million tokens; with --data what", told)
    assert float(million) == pytest.approx(3e6 / rate / 3600, rel=0.01)
    assert yaml.safe_load(out.read_text())["trainer"]["devices"] == 8


def test_cost_by_hand() -> None:
    """3.6e9 positions at 1000 a second are 1000 hours of a card."""
    load = Load(TypicalGroup(), 885, 8, 4096, positions=3.6e9)
    assert (
        told_cost(2.5, load, 4, 1000.0)
        == "at 2.5 for a card and hour (10 for all 4): 2500.00, 0.694 for a million tokens"
    )


@pytest.mark.slow
def test_what_it_costs(shape: str, pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: positions of all epochs over tokens a second of all cards are seconds; each card has its price."""
    data = ["--data", "PreferenceFileDataModule", "--data.path", str(pairs_file), "--trainer.max_epochs", "5000"]
    fit = ["--fit_into", "4xH100-80GB", "--price_per_hour", "2.5"]
    lora = ["--model.backbone.lora.r", "16", "--model.backbone.dtype", "bfloat16", "--model.backbone.path", shape]
    assert main(["check", "-c", METHOD, *data, *lora, *fit]) == 0
    told = capsys.readouterr().out
    rate = float(re.findall(r"(\d+) tokens/s of each card", told)[0])
    hours, gpu_hours = (float(found) for found in re.findall(r", ([\d.]+) hours, ([\d.]+) GPU hours", told)[0])
    cost, million = re.findall(r"at 2.5 for a card and hour \(10 for all 4\): ([\d.]+), ([\d.]+) for a million", told)[
        0
    ]
    assert gpu_hours == pytest.approx(4 * hours, abs=0.25)
    assert float(cost) == pytest.approx(2.5 * gpu_hours, abs=0.13)
    assert float(million) == pytest.approx(2.5 * 1e6 / rate / 3600, rel=0.01)
    rows = {line.split()[0]: line.split() for line in told.splitlines() if "GB " in line}
    assert float(rows["H100-80GB"][-1]) == pytest.approx(gpu_hours, abs=0.11)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fit_into"], "--fit_into: expected a value, such as 8xH100-80GB"),
        (["--fit_into", "8xH100", "--out="], "--out: expected a value"),
        (["--out", "x.yaml"], "--out is where --fit_into writes"),
        (["--price_per_hour", "2"], "--price_per_hour is that of one card for an hour, of the cards that --fit_into"),
        (["--fit_into", "8xH100", "--price_per_hour", "0"], "--price_per_hour '0': expected what one card costs"),
        (["--fit_into", "8xH100", "--price_per_hour", "nan"], "--price_per_hour 'nan': expected what one card costs"),
        (["--fit_into", "8xH100", "--price_per_hour", "$2"], "--price_per_hour '$2': expected what one card costs"),
        (["--fit_into", "8xH100", "--price_per_hour"], "--price_per_hour: expected a value, such as 2.5"),
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
