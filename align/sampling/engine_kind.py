"""What may draw the samples of a run's rounds in the place of our own engine, as YAML names it by its class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from align.errors import ConfigError
from align.records import PromptFormat
from align.sampling.engine import Engine
from align.sampling.engine_difference import EngineDifference
from align.sampling.generation import Generation
from align.sampling.stopping_criteria import StopCriteria
from align.sampling.trained_module import TrainedModule
from align.sampling.written_policies import WrittenPolicies


class SampledRun(NamedTuple):
    """A run whose rounds are sampled, as what draws them sees it."""

    module: TrainedModule
    generation: Generation
    policies: WrittenPolicies
    adapted: bool
    """Whether an adapter alone is trained."""
    on_tokens: bool
    """Whether samples are trained on as the tokens they were drawn as."""
    corrected: bool
    """Whether losses are weighted by how probable the engine said those are."""

    def difference(self, most: float) -> EngineDifference:
        """Return what measures how far log-probabilities are from ours; above `most` nats a token they are refused."""
        return EngineDifference(self.module.model, self.generation, most, self.module.backbone)


class RoundPolicy(NamedTuple):
    """The policy that a round is drawn from."""

    prompt_format: PromptFormat
    """How its prompts are written, and the token that ends a response."""
    stop: tuple[str, ...]
    """Texts that end a response."""
    weights: str
    """Hash of its weights, and of how they are loaded."""
    ahead: bool = False
    """Whether the module trains on while samples of it are drawn."""
    gone: bool = False
    """Whether the module has other weights by now, and the policy lies where it was written for servers."""

    def ends(self, module: TrainedModule) -> StopCriteria:
        """Return what ends a response."""
        return StopCriteria(module.tokenizer, [self.prompt_format.eos_id], self.stop)


class RunEngine(ABC):
    """What draws the samples of one run."""

    @abstractmethod
    def of(self, policy: RoundPolicy) -> Engine:
        """Return the engine that draws from the module as it is; every process calls when a round begins."""

    def finish(self) -> None:
        """Let go of what was held for the run, after its last round; every process calls."""


class EngineKind(ABC):
    """Settings of an engine that is given each round's policy, and draws from it as our own engine does."""

    most_difference: float
    """Mean difference of its log-probabilities from ours, in nats a token, above which what it drew is refused."""
    importance_cap: float | None
    """In online RL, the policy's loss of a token is multiplied by the ratio of our probability to the engine's, at most
    this; null corrects nothing."""

    @abstractmethod
    def begin(self, run: SampledRun) -> RunEngine:
        """Return what draws the samples of a run; every process calls, before anything is sampled.

        Raises ConfigError where it cannot draw from what the run trains.
        """

    def check_numbers(self) -> None:
        """Raise ConfigError for settings of the difference that make no sense."""
        if not self.most_difference > 0 or (self.importance_cap is not None and not self.importance_cap > 0):
            raise ConfigError(
                f"{type(self).__name__}: most_difference and importance_cap must be positive, got "
                f"{self.most_difference}, {self.importance_cap}"
            )
