"""PRO with one reward model that ranks and another that measures, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.cli.main import main
from align.records import Message
from align.rewards.reward_model_scorer import RewardModelScorer
from tests.test_configs import CPU, ROOT
from tests.tiny import save_reward_model, save_tiny


@pytest.mark.slow
def test_one_ranks_and_the_other_measures(pairs_file: Path, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", max_position_embeddings=512)
    ranks = save_reward_model(Path("runs/reward_model_train/model"), 1)
    measures = save_reward_model(Path("runs/reward_model_eval/model"), 2)
    assert main(["data", "rank", "--data", str(pairs_file), "--rewards", str(ranks), "--out", "lists.jsonl"]) == 0
    configs = (ROOT / "configs" / name for name in ("method/pro.yaml", "callbacks/pro_two_rewards.yaml"))
    words = ["fit", *(word for file in configs for word in ("-c", str(file))), "-c", CPU]
    words += ["--data", "PreferenceFileDataModule", "--data.path", "lists.jsonl", "--trainer.max_epochs", "2"]
    words += ["--model.backbone.path", str(model), "--trainer.default_root_dir", "runs/pro"]
    assert main(words) == 0
    oracle = RewardModelScorer(str(ranks))
    rows = [json.loads(row) for row in Path("runs/pro/rounds/round-0000.jsonl").read_text().splitlines()]
    assert rows
    for row in rows:
        messages = tuple(Message(m["role"], m["content"]) for m in row["messages"])
        rewards = oracle.score([messages] * len(row["responses"]), row["responses"])[:, 0].tolist()
        assert sorted(value for (value,) in row["scores"]) == pytest.approx(sorted(rewards), abs=1e-4)
        assert "policy@0" in row["origins"][1:]  # never first
    found = [json.loads(row) for row in Path("runs/pro/rewards.jsonl").read_text().splitlines()]
    assert {"train", "eval"} <= found[0].keys()
    assert found[0]["train"] != found[0]["eval"]
    assert str(measures) not in json.dumps(rows)
