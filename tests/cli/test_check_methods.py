"""`align check` before the first run of every method."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.cli.main import main
from tests.test_configs import CPU, FIRST_STAGE, IN_ROUNDS, SCORED
from tests.tiny import WORDS, save_tiny

METHODS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs" / "method").glob("*.yaml"))
GRADED = {*SCORED, "reward_model_flip", "reward_model_scaled", "reward_model_soft"}
LABELLED = ("reward_model_multi",)
"""Needs attributes and their scales."""


def check(method: str, folder: Path) -> int:
    """Look at a run of a method on a small file of its kind."""
    score = {"scores": [0.75, 0.25]} if method in GRADED else {}
    rows = [{"prompt": word, "completions": ["yes", f"no {word}"], "ranks": [0, 1], **score} for word in WORDS]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rounds = ["-c", IN_ROUNDS[method]] if method in IN_ROUNDS else []
    data = ["--data", "PreferenceFileDataModule", "--data.path", "rows.jsonl"]
    return main(["check", "-c", method, *rounds, "-c", CPU, *data, "--model.backbone.path", str(folder)])


@pytest.mark.parametrize("method", ["rahf_single_stage1", "rahf_dual_stage1"])
def test_first_stages(method: str, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their adapters know the weights beneath them by a hash, which nobody can take where sizes are counted."""
    save_tiny(model_folder, max_position_embeddings=2048)
    assert check(method, model_folder) == 0
    assert "no fault found" in capsys.readouterr().out


def test_a_loss_on_states_is_counted_where_nothing_is_trained(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny(model_folder, max_position_embeddings=2048)
    assert check("lorra", model_folder) == 0
    assert "memory about" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in METHODS if m not in (*FIRST_STAGE, *LABELLED)])
def test_every_method(method: str, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny(model_folder, max_position_embeddings=2048)
    assert check(method, model_folder) == 0
    assert "no fault found" in capsys.readouterr().out
