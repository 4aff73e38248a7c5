"""The reward models a verb names: how far each reads, and what is told of dialogues it did not read whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from align.cli.evaluation_tables import name
from align.errors import ConfigError
from align.evaluation.completions import EvaluationPrompt, examples_of
from align.judges.preference import ResponseScorer
from align.rewards.named_rewards import Tokens, named_rewards
from align.rewards.reward_model_scorer import RewardModelScorer
from align.rewards.scorers import Scorer
from align.strict_json import json_text
from align.workers.ray_session import RaySession

RewardFolders = dict[str, str] | list[str]
"""Reward model folders, by name or one after the other."""


def load_reward_models(
    folders: RewardFolders, tokens: Tokens, workers: RaySession | None = None
) -> dict[str, RewardModelScorer]:
    """Return the models of folders, by path or by the names given; with workers these hold them.

    Raises ConfigError for a number that none has.
    """
    paths = folders if isinstance(folders, dict) else {path: path for path in folders}
    return named_rewards(paths, tokens, called=name, workers=workers)


def beside(
    reward_models: Mapping[str, RewardModelScorer], scorer: Scorer | None, prompts: Sequence[EvaluationPrompt]
) -> dict[str, ResponseScorer]:
    """Return reward models with another scorer, by the name of its score, or of its class where it has several.

    Raises ConfigError where a reward model has that name, and for a scorer that cannot be asked about the prompts.
    """
    found: dict[str, ResponseScorer] = dict(reward_models)
    if scorer is not None:
        scorer.ready()
        scorer.check_examples(examples_of(prompts))
        called = scorer.attributes[0] if len(scorer.attributes) == 1 else type(scorer).__name__
        if called in found:
            raise ConfigError(f"--scorer and a reward model are both called {called}: give the folder another name")
        found[called] = scorer
    return found


def tell_scorer(scorer: Scorer | None) -> str | None:
    """Print what a scorer tells, and return what it is known by."""
    if scorer is None:
        return None
    print(f"scorer: {json_text(scorer.report())}")
    return scorer.identity


def tell_reading(reward_models: Mapping[str, RewardModelScorer]) -> dict[str, dict[str, Any]]:
    """Print what was not read, or not whole, and return the counts of every model by its name or folder."""
    for reward_model in reward_models.values():
        if (note := reward_model.note()) is not None:
            print(note)
    return {
        key: {
            "path": reward_model.backbone.path,
            "reading": reward_model.reading,
            "max_tokens": reward_model.max_tokens,
            "dialogues": reward_model.dialogues,
            "cut": reward_model.cut,
            "unread": reward_model.unread,
        }
        for key, reward_model in reward_models.items()
    }
