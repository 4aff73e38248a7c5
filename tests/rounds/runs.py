"""Runs with rounds in the synthetic world, small enough to be killed often."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.models.small import new_llama, word_tokenizer
from align.world.language import TAGS, vocabulary
from align.world.universe import World
from tests.test_configs import CPU, ROOT

RESAMPLING = "align.callbacks.resampling.IterativeResampling"


def save_world_model(folder: Path) -> Path:
    tokenizer = word_tokenizer(vocabulary(), TAGS)
    model = new_llama(tokenizer, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, max_positions=256)
    model.config.synthetic_world = World().settings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def world_model(tmp_path: Path) -> Path:
    return save_world_model(tmp_path / "world")


def command(
    model: Path, *more: str, method: str = "dpo", selection: str = "align.rounds.pair_selections.BestWorst"
) -> list[str]:
    """Three rounds of twelve prompts, four samples each, in batches of two prompts; shorter is better."""
    given = {
        "scorer": "align.rewards.scorers.GoldRewards",
        "selection": selection,
        "generation": "{max_new_tokens: 6, num_samples: 4, batch_tokens: 120}",
        "direction": "{weights: {verbosity: -1.0}}",
        "prompts": "12",
        "missing_eos_penalty": "0.5",
    }
    options = [word for name, value in given.items() for word in (f"--trainer.callbacks.{name}", value)]
    return [
        *("fit", "-c", str(ROOT / "configs" / "method" / f"{method}.yaml"), "-c", CPU),
        *("--data", "SyntheticDataModule", "--data.preferences.size", "30", "--data.preferences.held_out_size", "4"),
        *("--data.batching.groups", "4", "--model.backbone.path", str(model)),
        *("--model.optimizer.learning_rate", "1e-2", "--trainer.max_epochs", "3"),
        *("--trainer.callbacks+", "align.callbacks.checkpoint.Checkpoint", "--trainer.callbacks.every_n_steps", "2"),
        *("--trainer.callbacks+", RESAMPLING, *options, *more),
    ]
