"""The self-check of two processes: both decide the same, whatever their strategy, and nothing hangs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.checks.test_layouts import leaking
from tests.processes.runs import IN_CI, Pair, command
from tests.resume.runs import Run
from tests.test_configs import scalars

DOUBLE = ["--model.backbone.dtype", "float64"]


def leak() -> None:
    """Sabotage packed rows in this process."""
    from align.scoring.packed_row import PackedRow

    PackedRow.attend = leaking()  # type: ignore[method-assign]


def leak_in_one() -> None:
    """Sabotage them in the second process only."""
    if os.environ["RANK"] == "1":
        leak()


def found(run: Run) -> str:
    card = (run.root / "model" / "README.md").read_text()
    return next(line for line in card.splitlines() if line.startswith("Self-check: "))


@pytest.mark.parametrize("strategy", IN_CI)
def test_two_processes_replace_a_layout_together(
    strategy: str, tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    one = Run(tmp_path / "one", command("dpo", pairs_file, model_folder, *DOUBLE))
    assert one() == 0, one.log
    assert found(one).startswith("Self-check: packed rows, values off by ")
    two = Pair(tmp_path / "two", command("dpo", pairs_file, model_folder, *DOUBLE, strategy=strategy))
    assert two(prepare=leak_in_one) == 0, two.log
    assert found(two).startswith("Self-check: shared rows, values off by ")
    assert scalars(two.root, "train/loss") == pytest.approx(scalars(one.root, "train/loss"), rel=1e-6)


@pytest.mark.parametrize("strategy", IN_CI)
def test_two_processes_refuse_together(strategy: str, tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    words = command("dpo", pairs_file, model_folder, "--model.backbone.layout", "packed", strategy=strategy)
    run = Pair(tmp_path / "run", words)
    assert run(prepare=leak) == 2
    assert "set backbone.layout to auto" in run.log
