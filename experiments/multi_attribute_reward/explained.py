"""How much of the gold rewards of held-out responses a reward model explains: R^2 of every attribute."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from align.data.source import Report
from align.data.synthetic import Synthetic
from align.rewards.reward_model_scorer import RewardModelScorer
from align.world.gold_rewards import REWARDS
from align.world.preferences import Preferences


def explained(model: str, seed: int, held_out: int) -> dict[str, float]:
    """Return R^2 of every attribute on responses to held-out prompts, against all gold rewards."""
    examples = list(Synthetic(Preferences(held_out_size=held_out, seed=seed)).read("val", Report()))
    scorer = RewardModelScorer(model, attributes=REWARDS)
    rows = [(example.messages, text) for example in examples for text in example.responses]
    points = scorer.score([messages for messages, _ in rows], [text for _, text in rows])
    gold = torch.tensor([score for example in examples for score in example.scores])
    assert scorer.rescaling is not None
    said = scorer.rescaling.labels(points)
    residual, spread = (gold - said).square().sum(0), (gold - gold.mean(0)).square().sum(0)
    return dict(zip(REWARDS, (1 - residual / spread).tolist(), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--held_out", type=int, required=True)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(explained(given.model, given.seed, given.held_out)))
