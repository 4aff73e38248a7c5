"""Rounds, generation and evaluation by continuous batching of transformers, compared with what our scorer says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from align.errors import ConfigError
from align.models.in_step import in_step
from align.sampling.checked import LocalEngine, Make
from align.sampling.continuous import ContinuousEngine, check_continuous
from align.sampling.engine_difference import Drawn, EngineDifference
from align.sampling.engine_kind import EngineKind, RoundPolicy, RunEngine, SampledRun
from align.sampling.generation import Completion, Generation, Job
from align.sampling.server_pool import IMPORTANCE_CAP
from align.scoring.decoder import unwrapped

TOGETHER = 256


@dataclass(frozen=True)
class ContinuousBatching(EngineKind):
    """Continuous batching of transformers in this process, with the model that trains: nothing is written or loaded.

    A sample that ends leaves its room in a paged cache of `generation.batch_tokens` positions to another. Tokens are
    drawn from the same streams as by our own engine, so that a run that goes on after a kill goes on to the same bits.
    On a GPU it wants a flash attention (`model.backbone.attn_implementation`): any other computes every sample of a
    step against the cache of all of them. With FSDP2 every process gathers the whole model for each batch.
    """

    together: int = TOGETHER
    """Samples of a batch, at least; they are kept once all of it is drawn, so that a kill costs one batch."""
    most_difference: float = 0.2
    """Mean difference of its log-probabilities from ours, in nats a token, above which what it drew is refused."""
    importance_cap: float | None = IMPORTANCE_CAP

    def __post_init__(self) -> None:
        if self.together < 1:
            raise ConfigError(f"ContinuousBatching.together must be at least 1, got {self.together}")
        self.check_numbers()

    def begin(self, run: SampledRun) -> RunEngine:
        """Return what draws the samples of a run."""
        return ContinuousRun(self, run)


class ContinuousRun(RunEngine):
    """Draws the rounds of a run from the model that trains."""

    def __init__(self, kind: ContinuousBatching, run: SampledRun) -> None:
        self.kind, self.run = kind, run

    def of(self, policy: RoundPolicy) -> MeasuredContinuous:
        """Return the engine that draws from the module as it is.

        Raises ConfigError for a model whose attention reads no paged cache.
        """
        module = self.run.module
        check_continuous(unwrapped(module.model))
        ends = (module.tokenizer, [policy.prompt_format.eos_id], policy.stop)
        difference = self.run.difference(self.kind.most_difference)
        return MeasuredContinuous(module.model, *ends, together=self.kind.together, difference=difference)


class MeasuredContinuous(LocalEngine):
    """Continuous batching, checked by plain forward passes first; its first samples are compared with our scorer."""

    engines: ClassVar[Mapping[str, Make]] = {"continuous batching of transformers": ContinuousEngine}
    found_at: ClassVar[str] = "checked_continuous_batching"
    place = "continuous batching"
    names_weights = True

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        eos_ids: Sequence[int],
        stop: Sequence[str] = (),
        *,
        difference: EngineDifference,
        together: int = TOGETHER,
    ) -> None:
        super().__init__(model, tokenizer, eos_ids, stop, whole_weights=True)
        self.difference, self.together = difference, together
        settings = difference.settings
        self.processed = settings.temperature > 0 and settings.top_p == 1
        """Whether log-probabilities are those at the temperature of sampling."""

    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job. Raises ModelError where they are not what our scorer would draw."""
        found = super().generate(jobs, settings, round_number)
        pairs = [(job.request, one) for job, own in zip(jobs, found, strict=True) for one in own]
        self.difference.add([Drawn(request, one, self) for request, one in pairs])
        return found

    def in_step(self) -> AbstractContextManager[None]:
        """Return the context in which a sharded model is whole on every process."""
        return in_step([self.model], whole=True)

    def measured(self) -> dict[str, float]:
        """Return how far its log-probabilities were from ours in this round; every process calls."""
        return self.difference.measured()
