"""Who is better, of two responses: the interface of judges, and the judges that need no language model."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError
from align.models.world_settings import check_same_world
from align.records import Example, Message
from align.rewards.components import Component
from align.world.gold_rewards import User, gold
from align.world.universe import World

Dialogue = Sequence[Message]


class Preference(NamedTuple):
    """How well the first of two responses did, from 0 to 1, in both orders; NaN for an invalid reply."""

    shown_first: float
    """When the judge read it first."""
    shown_second: float
    """When the judge read it second."""

    @property
    def probability(self) -> float:
        """Return the mean of both orders, NaN when one is invalid."""
        return (self.shown_first + self.shown_second) / 2


class Judge(Component, ABC):
    """Prefers one of two responses to a prompt."""

    name: str
    asks_canaries = False
    """Whether an evaluation should also ask it about known answers."""

    @property
    def identity(self) -> str:
        """Return all that decides the preferences; scores kept under another identity are not used.

        Raises ConfigError where a class does not say.
        """
        raise ConfigError(
            f"{type(self).__name__} does not say what decides its preferences: give the class a property `identity`"
        )

    @abstractmethod
    def prefer(self, prompts: Sequence[Dialogue], first: Sequence[str], second: Sequence[str]) -> list[Preference]:
        """Return the preference between `first[i]` and `second[i]` for every prompt."""

    def prefer_examples(
        self, examples: Sequence[Example], first: Sequence[str], second: Sequence[str]
    ) -> list[Preference]:
        """Return the preferences for the prompts of records, whose kept columns may be read."""
        return self.prefer([example.messages for example in examples], first, second)

    def report(self) -> dict[str, object]:
        """Return what should stand beside the results: invalid replies, requests, cost."""
        return {}


class ResponseScorer(Protocol):
    """What scores single responses, such as `align.rewards.reward_model_scorer.RewardModelScorer`."""

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return the rewards of each response to the prompt beside it."""


class RewardJudge(Judge):
    """Prefers the response a reward model folder scores higher; order plays no part."""

    def __init__(self, path: str, attribute: int = 0, max_tokens: int | None = None) -> None:
        """Configure the judge.

        Args:
            path: Folder of the reward model.
            attribute: Which of its outputs decides.
            max_tokens: Longest dialogue that is read whole; null takes that of its training, or the model's context.
        """
        self.path, self.attribute, self.name, self.max_tokens = path, attribute, path, max_tokens
        self._scorer: ResponseScorer | None = None

    @cached_property
    def identity(self) -> str:
        """Return a hash of the folder's files, or the hub id, the output, and the tokens that are read."""
        from align.rewards.scorers import RewardFolder

        return repr((RewardFolder(self.path, self.max_tokens).identity, self.attribute))

    def prefer(self, prompts: Sequence[Dialogue], first: Sequence[str], second: Sequence[str]) -> list[Preference]:
        """Return 1, 0.5 or 0 by the rewards."""
        if self._scorer is None:
            from align.rewards.reward_model_scorer import RewardModelScorer

            self._scorer = RewardModelScorer(self.path, max_tokens=self.max_tokens)
        return by_score(self._scorer, prompts, first, second, self.attribute)


class GoldJudge(Judge):
    """Prefers by the gold reward of the synthetic world."""

    name = "gold"

    def __init__(self, world: World = World(), user: User = User()) -> None:
        """Configure the judge.

        Args:
            world: The universe the prompts belong to.
            user: Whose reward decides.
        """
        self.world, self.user = world, user

    def check_world(self, name: str, settings: Mapping[str, Any]) -> None:
        """Raise ConfigError for prompts or a model of another world."""
        check_same_world(("the gold judge", self.world.settings), (name, settings))

    @property
    def identity(self) -> str:
        """Return the settings of the world and of the user."""
        return repr((self.world, self.user))

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return the user's reward of each response."""
        pairs = zip(prompts, responses, strict=True)
        return torch.tensor([[self.user.reward(gold(self.world, tuple(p), r))] for p, r in pairs], dtype=torch.float64)

    def prefer(self, prompts: Sequence[Dialogue], first: Sequence[str], second: Sequence[str]) -> list[Preference]:
        """Return 1, 0.5 or 0 by the gold rewards."""
        return by_score(self, prompts, first, second)


def by_score(
    scorer: ResponseScorer, prompts: Sequence[Dialogue], first: Sequence[str], second: Sequence[str], attribute: int = 0
) -> list[Preference]:
    """Return preferences by a score of single responses; equal scores are a tie, a score that is NaN is invalid."""
    a = scorer.score(prompts, first)[:, attribute].tolist()
    b = scorer.score(prompts, second)[:, attribute].tolist()
    return [Preference(outcome, outcome) for outcome in map(better, a, b)]


def better(first: float, second: float) -> float:
    """Return 1 where the first score is higher, 0 where the second is, 0.5 for a tie, NaN where one is missing."""
    if math.isnan(first) or math.isnan(second):
        return math.nan
    return 0.5 if first == second else float(first > second)
