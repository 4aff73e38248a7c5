"""Online RL drawn by other engines in this process: their samples, and a run that is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.processes.runs import STRATEGIES, TRAINER, Pair
from tests.resume.runs import KILLED, Run
from tests.rounds.runs import command, world_model
from tests.rounds.test_kills import acknowledged, killing
from tests.rounds.test_pool import EVERY, stored
from tests.sampling.vllm_stand_in import install
from tests.test_configs import scalars

__all__ = ["world_model"]
CONTINUOUS = {"class_path": "ContinuousBatching", "init_args": {"together": 16}}
VLLM = {"class_path": "ColocatedVLLM", "init_args": {"together": 24, "gpu_memory_utilization": 0.5}}


def drawn_by(engine: dict[str, Any], model: Path, *more: str) -> list[str]:
    """Three rounds of 48 samples."""
    given = ["--trainer.callbacks.engine", json.dumps(engine), *more]
    return [*command(model, method="grpo", selection=EVERY), *given]


def test_vllm_in_the_training_process(tmp_path: Path, world_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One load, an adapter of its own in every round, asleep between them; against the stand-in."""
    called = install(monkeypatch, tmp_path / "calls")
    run = Run(tmp_path / "run", drawn_by(VLLM, world_model, "--model.backbone.lora.r", "4"))
    assert run() == 0, run.log
    calls = called()
    round_of_two = ["wake_up", "wake_up", "reset_prefix_cache", "generate", "generate", "sleep"]
    assert [call["call"] for call in calls] == ["LLM", *round_of_two[2:], *round_of_two, *round_of_two]
    asked = [call["lora"] for call in calls if call["call"] == "generate"]
    assert len(set(asked)) == 3
    assert asked[::2] == asked[1::2]
    rows = stored(run.root)
    assert len(rows) == 3 * 12 * 4
    assert all(told is not None and len(told) == len(ids) for ids, told in rows.values())
    assert max(scalars(run.root, "train/engine_difference")) < 1e-5
    assert not (run.root / "rounds" / "served").exists()


def test_vllm_that_is_missing_is_told_before_anything_is_sampled(tmp_path: Path, world_model: Path) -> None:
    run = Run(tmp_path / "run", drawn_by(VLLM, world_model))
    assert run() == 2
    assert "pip install 'align-lm[vllm]'" in run.log
    assert stored(run.root) == {}


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_samples(tmp_path: Path, world_model: Path) -> None:
    """By continuous batching, the real one: three rounds of three batches of 16 samples, in the precision of the run."""
    words = drawn_by(CONTINUOUS, world_model, "--model.backbone.lora.r", "4")
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


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("engine", [CONTINUOUS, VLLM], ids=["continuous", "vllm"])
@pytest.mark.parametrize("adapted", [True, False], ids=["adapter", "whole"])
def test_two_processes_draw_as_one(
    engine: dict[str, Any],
    strategy: str,
    adapted: bool,
    tmp_path: Path,
    world_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each draws a part of the samples: the same tokens, and the same losses."""
    if engine is VLLM:
        install(monkeypatch, tmp_path / "calls")
    more = ["--model.backbone.lora.r", "4"] if adapted else []
    words = drawn_by(engine, world_model, *more, "--model.backbone.dtype", "float64", "--trainer.max_epochs", "2")
    both = ["-c", str(TRAINER / STRATEGIES[strategy]), "--trainer.accelerator", "cpu", "--trainer.devices", "2"]
    one, two = Run(tmp_path / "one", words), Pair(tmp_path / "two", [*words[:5], *both, *words[5:]])
    assert one() == 0, one.log
    assert two() == 0, two.log
    for name in ("train/loss", "train/grad_norm", "train/reward"):
        assert scalars(two.root, name) == pytest.approx(scalars(one.root, name), rel=1e-6, abs=1e-9), name
    assert max(scalars(two.root, "train/engine_difference")) < 1e-5
    for file in ("round-0000.jsonl", "round-0001.jsonl"):
        texts = [(run.root / "rounds" / file).read_text().splitlines() for run in (one, two)]
        drawn = [[json.loads(line)["response_ids"] for line in lines] for lines in texts]
        assert drawn[0] == drawn[1]
