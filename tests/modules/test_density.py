"""A Bradley-Terry reward model recovers a known log-density up to a constant.

When annotators prefer by log p(y), the maximum-likelihood reward is log p(y) + c (density view of preferences; the
Bradley-Terry model determines rewards up to a constant). Here p draws letters with unequal probabilities, so its
log-density is exact.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from align.data.batching import Batching
from align.data.preference_file import PreferenceFileDataModule
from align.data.splits import Splits
from align.models.backbone import Backbone
from align.models.small import new_llama, word_tokenizer
from align.modules.reward_model import RewardModel
from align.records import CandidateBatch, Example, Message
from align.training.optimizer import Optimizer

LETTERS, LENGTH, PAIRS = list("abcdefgh"), 8, 6000
PROBABILITIES = np.array([0.3, 0.22, 0.16, 0.12, 0.08, 0.06, 0.04, 0.02])


def draw_letters(rng: np.random.Generator) -> list[int]:
    """Letters drawn from a flatter distribution, so that rare ones are seen."""
    return rng.integers(len(LETTERS), size=LENGTH).tolist()


def log_density(states: list[int]) -> float:
    return float(np.log(PROBABILITIES[states]).sum())


def text(states: list[int]) -> str:
    return " ".join(LETTERS[s] for s in states)


@pytest.mark.slow
def test_log_density_is_recovered(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(PAIRS):
        a, b = draw_letters(rng), draw_letters(rng)
        preferred = rng.random() < 1 / (1 + math.exp(log_density(b) - log_density(a)))
        chosen, rejected = (a, b) if preferred else (b, a)
        if a != b:
            rows.append({"prompt": "go", "chosen": text(chosen), "rejected": text(rejected)})
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tokenizer = word_tokenizer(["go", *LETTERS])
    new_llama(tokenizer, hidden_size=64, num_hidden_layers=2, max_positions=64).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    L.seed_everything(0)
    data = PreferenceFileDataModule(
        str(tmp_path / "pairs.jsonl"), batching=Batching(groups=32, tokens=10**9), splits=Splits(0), seed=0
    )
    module = RewardModel(Backbone(str(tmp_path / "model")), optimizer=Optimizer(learning_rate=2e-3))
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)

    fresh = [draw_letters(rng) for _ in range(1000)]
    assert data.encoder is not None
    groups = data.encoder.encode([Example(str(i), (Message("user", "go"),), (text(s),)) for i, s in enumerate(fresh)])
    with torch.no_grad(), module.evaluating():
        rewards = module.rewards(CandidateBatch.of(groups)).flatten().numpy()  # type: ignore[arg-type]
    truth = np.array([log_density(s) for s in fresh])
    slope, _ = np.polyfit(truth, rewards, 1)
    correlation = np.corrcoef(truth, rewards)[0, 1]
    print(f"\nlog-density recovered: correlation {correlation:.4f}, slope {slope:.3f}, spread {truth.std():.2f} nats")
    assert correlation > 0.97
    assert 0.85 < slope < 1.15
