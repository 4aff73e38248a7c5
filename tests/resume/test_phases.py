"""Kills by phase: in training, around and within validations, and at every touch of a file while a checkpoint is saved."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from align.training.checkpoint_io import AtomicCheckpointIO
from tests.resume.runs import KILLED, Run, after_touches, same
from tests.resume.test_exact import NINE, command
from tests.resume.test_validation import OFTEN, kept

MOMENTS = {
    "training": ("batch_start", "before_step", "batch_end"),
    "validation": ("validation_start", "validation_batch", "validation_end"),
}
TOUCHES = 5
"""Of files in one save: two are opened and renamed, and the folder is synced."""


def killing_a_save(number: int, touches: int) -> Callable[[], None]:
    """Prepare a process that dies at one of the touches of a file in its save of that number."""

    def prepare() -> None:
        save, left = AtomicCheckpointIO.save_checkpoint, iter(range(number - 1, -1, -1))

        def saving(self: AtomicCheckpointIO, *arguments: object, **options: object) -> None:
            if next(left, -1) == 0:
                after_touches(touches, lambda: os.kill(os.getpid(), NINE))
            save(self, *arguments, **options)  # type: ignore[arg-type]

        AtomicCheckpointIO.save_checkpoint = saving  # type: ignore[method-assign,assignment]

    return prepare


def start(run: Run, phase: str, draw: random.Random) -> int:
    """Start the run, or go on, to be killed in that phase unless it comes to its end before."""
    if phase == "saving":
        return run(prepare=killing_a_save(draw.randint(1, 3), draw.randint(1, TOUCHES)))
    return run((draw.choice(MOMENTS[phase]), draw.randint(1, 3 if phase == "validation" else 9), NINE))


def kills_in(phase: str, wanted: int, tmp_path: Path, arguments: list[str]) -> int:
    whole, draw, killed, runs = Run(tmp_path / "whole", arguments), random.Random(phase), 0, 0
    assert whole() == 0, whole.log
    while killed < wanted:
        cut, code = Run(tmp_path / f"cut{runs}", arguments), KILLED
        while code == KILLED:
            code = start(cut, phase, draw)
            killed += code == KILLED
        assert code == 0, cut.log
        same(whole, cut)
        assert str(kept(whole)) == str(kept(cut))  # what callbacks have counted: best scores and checkpoints
        runs += 1
    print(f"\n{phase}: {killed} kills over {runs} runs: every run ended with the model it would have had")
    return killed


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["training", "validation", "saving"])
def test_kills_by_phase(phase: str, tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    arguments = command(pairs_file, model_folder, *OFTEN, "--trainer.max_epochs", "1", method="sft")
    assert kills_in(phase, int(os.environ.get("ALIGN_KILLS", "40")), tmp_path, arguments) >= 1
