"""Online RL drawn by continuous batching of transformers: a run that is killed goes on to the same bits."""

from __future__ import annotations

import json
from pathlib import Path

from tests.resume.runs import KILLED, Run
from tests.rounds.runs import command, world_model
from tests.rounds.test_kills import acknowledged, killing
from tests.rounds.test_pool import EVERY, stored
from tests.test_configs import scalars

__all__ = ["world_model"]
ENGINE = {"class_path": "ContinuousBatching", "init_args": {"together": 16}}


def test_a_killed_run_goes_on_to_the_same_samples(tmp_path: Path, world_model: Path) -> None:
    """Three rounds of three batches of 16 samples; its log-probabilities are those of our scorer."""
    given = ["--trainer.callbacks.engine", json.dumps(ENGINE), "--model.backbone.lora.r", "4"]
    words = [*command(world_model, method="grpo", selection=EVERY), *given]
    whole, run = Run(tmp_path / "whole", words), Run(tmp_path / "run", words)
    assert whole() == 0, whole.log
    journal = tmp_path / "journal"
    assert run(prepare=killing(journal, "after add", 5)) == KILLED, run.log
    kept = stored(run.root)
    assert len(kept) == len(acknowledged(journal)) == 3 * 16 + 2 * 16
    assert run() == 0, run.log
    rows = stored(run.root)
    assert len(rows) == 3 * 12 * 4
    assert rows == stored(whole.root)
    assert all(told is not None and len(told) == len(ids) for ids, told in rows.values())
    assert max(scalars(run.root, "train/engine_difference")) < 1e-5
