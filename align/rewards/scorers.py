"""Scorers by name in YAML: a reward model folder, the gold reward, and attributes weighed or gated into one reward."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.folder_checks import folder_hash, local_folder
from align.models.resolving import resolve
from align.models.reward_file import read_reward_file
from align.models.world_settings import check_same_world
from align.records import Example, Message
from align.rewards.components import Component
from align.rewards.gate import Gate
from align.rewards.ray_reward_model import FOR_WORKERS, RayRewardModel
from align.rewards.reward_model_reading import outputs_of
from align.rewards.reward_model_scorer import RewardModelScorer
from align.workers.ray_session import RaySession
from align.workers.ray_settings import RayWorkers
from align.world.gold_rewards import REWARDS, gold, request_of
from align.world.universe import World

Dialogue = Sequence[Message]


class Scorer(Component, ABC):
    """Gives every response one number per attribute."""

    attributes: tuple[str, ...]
    compares = False
    """Whether a score depends on the other responses to the prompt, so that all have to be in one call."""

    @property
    def log_odds(self) -> bool:
        """Return whether a score is a log-odds, as Bradley-Terry has it, so that its sigmoid is a chance."""
        return False

    @property
    def shares(self) -> bool:
        """Return whether every process may score a part of a round; what keeps replies or asks a server may not."""
        return False

    @property
    @abstractmethod
    def identity(self) -> str:
        """Return what decides the numbers; scores kept under another identity are not used."""

    @property
    def lasting_identity(self) -> str:
        """Return the identity without what may be mended while a run goes on: the source of a reward function."""
        return self.identity

    @abstractmethod
    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return the scores of each response to the prompt beside it, NaN where there is none."""

    def score_examples(
        self, examples: Sequence[Example], responses: Sequence[str]
    ) -> Float[Tensor, "response attribute"]:
        """Return the scores of each response to the prompt of the record beside it, whose kept columns may be read."""
        return self.score([example.messages for example in examples], responses)

    def report(self) -> dict[str, object]:
        """Return what should stand beside the scores: invalid replies, requests, cost."""
        return {}


class RewardFolder(Scorer):
    """A reward model folder, loaded when it is first asked."""

    def __init__(self, path: str, max_tokens: int | None = None, ray: RayWorkers | None = None) -> None:
        """Name the folder.

        Args:
            path: A folder that `RewardModel` exported, any sequence classifier, or a hub id.
            max_tokens: Longest dialogue that is read whole; null takes that of its training, or the model's context.
            ray: Workers on a Ray cluster that score in the place of this process, to equal scores.
        """
        self.path, self.max_tokens, self.ray = path, max_tokens, ray

    @cached_property
    def oracle(self) -> RewardModelScorer:
        """Return the loaded model; the global random stream is left as it was."""
        if self.ray is not None:
            return RayRewardModel(self.path, RaySession(self.ray, "RewardFolder.ray"), max_tokens=self.max_tokens)
        with torch.random.fork_rng(devices=[]):
            return RewardModelScorer(self.path, max_tokens=self.max_tokens)

    @property
    def log_odds(self) -> bool:
        """Return whether it was trained on comparisons: one of ratings gives points."""
        return read_reward_file(self.path) is None

    @property
    def shares(self) -> bool:
        """Return whether every process may score a part: workers are asked by one."""
        return self.ray is None

    @property
    def together(self) -> int:
        """Return more where workers score, which load the model for every call."""
        return FOR_WORKERS if self.ray else super().together

    @cached_property
    def attributes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return the names of the model's outputs, by its files alone."""
        return outputs_of(self.path)

    def ready(self) -> None:
        """Raise ModelError for a folder that is no reward model, or whose weights are not whole."""
        resolve(Backbone(self.path), "SEQ_CLS")
        assert self.attributes

    @cached_property
    def identity(self) -> str:
        """Return a hash of the folder's files, or the hub id, and where they were set the tokens that are read."""
        files = self.path if (folder := local_folder(self.path)) is None else folder_hash(folder)
        return files + (f" {self.max_tokens} tokens" if self.max_tokens else "")

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return the model's outputs."""
        return self.oracle.score(prompts, responses)


class GoldRewards(Scorer):
    """The gold rewards of the synthetic world."""

    attributes = REWARDS
    shares = True
    log_odds = True

    def __init__(self, world: World = World()) -> None:
        """Name the world.

        Args:
            world: The universe the prompts belong to.
        """
        self.world = world

    def check_world(self, name: str, settings: Mapping[str, Any]) -> None:
        """Raise ConfigError for prompts or a model of another world."""
        check_same_world(("the gold rewards", self.world.settings), (name, settings))

    def check_examples(self, examples: Sequence[Example]) -> None:
        """Raise DataError for a prompt that is of no world."""
        for example in examples:
            request_of(self.world, example.messages)

    @property
    def identity(self) -> str:
        """Return the world's settings."""
        return f"gold {hashlib.sha256(repr(self.world).encode()).hexdigest()[:16]}"

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return helpfulness, verbosity and harmlessness."""
        rows = [gold(self.world, tuple(p), r) for p, r in zip(prompts, responses, strict=True)]
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, len(REWARDS))


@dataclass(frozen=True)
class Direction:
    """A reward of several attributes: their weighted sum, v . r, less the penalties of gates."""

    weights: dict[str, float] | None = None
    """By attribute; null takes the scorer's first."""
    gates: tuple[Gate, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        given = [1.0] if self.weights is None else list(self.weights.values())
        if not all(map(math.isfinite, given)) or not (any(given) or self.gates):
            raise ConfigError(f"direction.weights must be finite, one of them not 0, or null, got {self.weights}")

    def check(self, attributes: Sequence[str]) -> None:
        """Raise ConfigError for an attribute that a scorer with these has not."""
        names = (*(self.weights or ()), *(gate.attribute for gate in self.gates))
        if unknown := [name for name in names if name not in attributes]:
            raise ConfigError(
                f"direction names {unknown[0]!r}, the scorer has {', '.join(attributes)}: weigh these, or set "
                "direction.weights to null, which takes the first"
            )

    def of(self, attributes: Sequence[str], scores: Sequence[float]) -> float:
        """Return the reward; NaN where an attribute that counts has no score. Raises ConfigError for an unknown one."""
        self.check(attributes)
        named = dict(zip(attributes, scores, strict=True))
        if any(math.isnan(named[g.attribute]) for g in self.gates):
            return math.nan
        closed = sum(gate.penalty for gate in self.gates if named[gate.attribute] < gate.at_least)
        return sum(w * named[name] for name, w in (self.weights or {attributes[0]: 1.0}).items() if w) - closed
