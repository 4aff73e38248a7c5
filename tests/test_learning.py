"""Methods move the gold reward of the synthetic world: the study in experiments/synthetic_baselines, asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


SEEDS = ("0", "1", "2")
Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole study over three seeds, with a base model trained here."""
    folder = tmp_path_factory.mktemp("study")
    file = ROOT / "experiments" / "synthetic_baselines" / "study.yaml"
    command = [sys.executable, "-m", "align", "study", str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    return folder / "runs" / "synthetic_baselines"


def measured(study: Path, seed: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads((study / f"gold-{seed}" / "results.json").read_text())["models"]
    return found


def test_the_reward_model_approaches_bayes_accuracy(study: Path) -> None:
    rows: Rows = json.loads((study / "reward_models" / "table.json").read_text())["rows"]
    curve = [rows[f"RM, pairs={n}"]["held-out accuracy"]["mean"] for n in (500, 2000, 8000, 16000)]
    bayes = rows["the best there is"]["Bayes accuracy"]["mean"]
    assert curve[0] < curve[1] < curve[2]
    assert bayes - max(curve) < 0.05
    assert all(accuracy < bayes + 0.02 for accuracy in curve)  # two standard errors of 2000 labels


@pytest.mark.parametrize("seed", SEEDS)
def test_dpo_is_above_sft_and_sft_above_the_base(study: Path, seed: str) -> None:
    base, sft, dpo = (measured(study, seed)[name] for name in ("base", "sft", "dpo"))
    assert dpo["low"] > base["high"]
    assert base["high"] < sft["reward"] < dpo["reward"] < dpo["best"]
    assert dpo["held_out_entities"] > base["held_out_entities"]


@pytest.mark.parametrize("seed", SEEDS)
def test_label_noise_hurts(study: Path, seed: str) -> None:
    found = measured(study, seed)
    assert found["dpo_flipped"]["reward"] < found["dpo"]["reward"]


def test_the_base_model_is_reproducible(tmp_path: Path) -> None:
    """Two runs of the command end with the same bytes (fewer rows than a good base needs)."""
    few = ("--checked_rows", "1000", "--rows", "1000")
    weights = []
    for name in ("a", "b"):
        command = [sys.executable, "-m", "align", "init", "world", "--out", str(tmp_path / name), *few]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "the base falls short" in done.stderr
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
