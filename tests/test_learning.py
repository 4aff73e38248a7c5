"""Methods move the gold reward of the synthetic world: the study in experiments/synthetic_baselines, asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Every run of the study over three seeds, with a base model trained here."""
    folder = tmp_path_factory.mktemp("study")
    script = ROOT / "experiments" / "synthetic_baselines" / "run.py"
    command = [sys.executable, str(script), "--out", str(folder / "runs"), "--base", str(folder / "base")]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout[done.stdout.index("\n| pairs") :])
    found: dict[str, list[dict[str, Any]]] = json.loads((folder / "runs" / "results.json").read_text())
    return found


def test_the_reward_model_approaches_bayes_accuracy(results: dict[str, list[dict[str, Any]]]) -> None:
    curve = [fmean(r["accuracy"] for r in results[f"RM, {n} pairs"]) for n in (500, 2000, 8000, 16000)]
    bayes = fmean(r["bayes"] for r in results["RM, 500 pairs"])
    assert curve[0] < curve[1] < curve[2]
    assert bayes - max(curve) < 0.05
    assert all(accuracy < bayes + 0.02 for accuracy in curve)  # two standard errors of 2000 labels


@pytest.mark.parametrize("seed", range(3))
def test_dpo_is_above_sft_and_sft_above_the_base(results: dict[str, list[dict[str, Any]]], seed: int) -> None:
    base, sft, dpo = results["base"][0], results["SFT on chosen"][seed], results["DPO"][seed]
    assert dpo["low"] > base["high"]
    assert base["high"] < sft["reward"] < dpo["reward"] < dpo["best"]
    assert dpo["held_out_entities"] > base["held_out_entities"]


@pytest.mark.parametrize("seed", range(3))
def test_label_noise_hurts(results: dict[str, list[dict[str, Any]]], seed: int) -> None:
    assert results["DPO, 30 % of labels flipped"][seed]["reward"] < results["DPO"][seed]["reward"]


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
