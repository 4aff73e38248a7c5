"""Rounds and online RL whose samples come from servers: the policy they are given, deaths, and kills of the run."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.processes.runs import STRATEGIES, TRAINER, Pair
from tests.resume.runs import KILLED, Run
from tests.rounds.runs import command, world_model
from tests.rounds.test_kills import acknowledged, killing
from tests.sampling.vllm_server import Served, vllm_serve
from tests.test_configs import CPU, ROOT, scalars

__all__ = ["world_model"]
EVERY = "align.rounds.every_sample.EverySample"


def pooled(model: Path, *servers: Served, method: str = "grpo") -> list[str]:
    """Batches of 16 samples for two servers, three of each of three rounds."""
    given = {"urls": [server.url for server in servers], "patience": 1.0, "concurrency": 2}
    selection = {"selection": EVERY} if method in ("ppo", "grpo") else {}
    more = ["--trainer.callbacks.engine", json.dumps(given), "--model.backbone.lora.r", "4"]
    return [*command(model, method=method, **selection), *more]


def shipped(model: Path, *servers: Served) -> list[str]:
    """The shipped fragment, small: two rounds, in batches as above."""
    urls = json.dumps([server.url for server in servers])
    return [
        *("fit", "-c", str(ROOT / "configs" / "method" / "grpo.yaml"), "-c", CPU),
        *("--data", "SyntheticDataModule", "--data.preferences.size", "30", "--data.preferences.held_out_size", "4"),
        *("-c", str(ROOT / "configs" / "callbacks" / "online_servers.yaml"), "--trainer.callbacks.prompts", "12"),
        *("--trainer.callbacks.generation.max_new_tokens", "6", "--trainer.callbacks.generation.num_samples", "4"),
        *("--trainer.callbacks.engine.urls", urls, "--trainer.callbacks.engine.patience", "1.0"),
        *("--trainer.callbacks.engine.concurrency", "2", "--trainer.max_epochs", "2"),
        *("--data.batching.groups", "4", "--model.backbone.path", str(model), "--model.backbone.lora.r", "4"),
        *("--model.optimizer.learning_rate", "1e-2", "--trainer.callbacks+", "align.callbacks.checkpoint.Checkpoint"),
    ]


def stored(root: Path) -> dict[tuple[int, str, int], tuple[list[int], list[float] | None]]:
    with sqlite3.connect(root / "rounds" / "rounds.sqlite") as db:
        rows = db.execute(
            "SELECT round, prompt, number, ids, logprobs FROM sample LEFT JOIN engine USING (round, prompt, number)"
        ).fetchall()
    return {(r, p, n): (json.loads(i), None if t is None else json.loads(t)) for r, p, n, i, t in rows}


def loads(server: Served) -> list[str]:
    return [row["lora_name"] for row in server.asked("load_lora_adapter") if row["lora_name"]]


@pytest.mark.slow
def test_the_run_and_a_server_are_killed(tmp_path: Path, world_model: Path) -> None:
    """Every round is drawn from its own adapter; what was acknowledged stays, and what is missing is drawn."""
    given = world_model, tmp_path
    with vllm_serve(*given, dies_after=16) as dying, vllm_serve(*given) as other:
        run = Run(tmp_path / "run", shipped(world_model, dying, other))
        journal = tmp_path / "journal"
        assert run(prepare=killing(journal, "after add", 2)) == KILLED, run.log
        kept = stored(run.root)
        assert len(kept) == len(acknowledged(journal)) == 32
        assert run() == 0, run.log
        asked = [row for server in (dying, other) for row in server.asked("completions") if row["max_tokens"] == 6]
        names = loads(other)
        unloaded = [row["lora_name"] for row in other.asked("unload_lora_adapter")]
    rows = stored(run.root)
    assert not (run.root / "rounds" / "served").exists()
    assert len(rows) == 2 * 12 * 4
    assert all(rows[key] == row for key, row in kept.items())
    assert all(told is not None and len(told) == len(ids) for ids, told in rows.values())
    assert len(names) == len(set(names)) == 2  # the killed round goes on with the adapter that is there
    assert unloaded == names[:1]
    assert {row["model"] for row in asked} == set(names)
    assert f"server {dying.url} does not answer (connection failed" in run.log
    differences = scalars(run.root, "rounds/engine_difference")
    assert len(differences) == 2
    assert max(differences) < 1e-5
    assert scalars(run.root, "train/engine_ratio") == pytest.approx([1, 1], abs=1e-4)


@pytest.mark.slow
def test_preference_rounds_pause_without_servers_and_go_on_with_others(tmp_path: Path, world_model: Path) -> None:
    """Log-probabilities are those before the temperature here, and compared with ours at 1."""
    with vllm_serve(world_model, tmp_path, dies_after=70) as dying:
        run = Run(tmp_path / "run", pooled(world_model, dying, method="dpo"))
        assert run() == 75, run.log
        assert f"none of the 1 servers answers, {dying.url}" in run.log
    kept = stored(run.root)
    assert len(kept) == 64
    with vllm_serve(world_model, tmp_path) as one, vllm_serve(world_model, tmp_path) as two:
        goes_on = Run(run.root, pooled(world_model, one, two, method="dpo"))
        assert goes_on() == 0, goes_on.log
    rows = stored(run.root)
    assert len(rows) == 3 * 12 * 4
    assert all(rows[key] == row for key, row in kept.items())
    assert max(scalars(run.root, "rounds/engine_difference")) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("method", "strategy"), [("ppo", "ddp"), ("grpo", "fsdp2")])
def test_two_processes_share_the_servers(method: str, strategy: str, tmp_path: Path, world_model: Path) -> None:
    """Drawn at temperature .9, log-probabilities told after it. One of them gives the servers the policy, each asks for a part of the samples."""
    given = world_model, tmp_path
    with vllm_serve(*given, processed=True) as one, vllm_serve(*given, processed=True, dies_after=40) as two:
        arguments = pooled(world_model, one, two, method=method)
        both = ["-c", str(TRAINER / STRATEGIES[strategy]), "--trainer.accelerator", "cpu", "--trainer.devices", "2"]
        pair = Pair(tmp_path / "two", [*arguments[:5], *both, *arguments[5:]])
        assert pair() == 0, pair.log
        assert len(loads(one)) == 3
    assert len(stored(pair.root)) == 3 * 12 * 4
    assert len(scalars(pair.root, "rounds/engine_difference")) == 3
    assert max(scalars(pair.root, "train/engine_difference")) < 1e-5
