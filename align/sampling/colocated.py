"""vLLM in the training process: given each round's weights in place, and asleep while the model trains."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from align.errors import ConfigError
from align.models.in_step import in_step
from align.sampling.engine import Engine
from align.sampling.engine_difference import Drawn, EngineDifference
from align.sampling.engine_kind import EngineKind, RoundPolicy, RunEngine, SampledRun
from align.sampling.generation import Completion, Generation, Job
from align.sampling.server_pool import IMPORTANCE_CAP
from align.sampling.vllm import import_vllm
from align.sampling.vllm_run import VLLMOfRun

OURS = (
    *("model", "enable_lora", "max_lora_rank", "max_loras", "enable_sleep_mode", "gpu_memory_utilization", "seed"),
    *("logprobs_mode", "trust_remote_code", "load_format", "tensor_parallel_size", "distributed_executor_backend"),
    "enable_prefix_caching",
)
"""Options of `vllm.LLM` that are set here."""
CALLS = ("sleep", "wake_up", "collective_rpc", "reset_prefix_cache", "generate")


@dataclass(frozen=True)
class ColocatedVLLM(EngineKind):
    """vLLM in the training process, on the same GPU; an extra: `pip install align-lm[vllm]`.

    It starts when the first round is sampled. With LoRA it is given the adapter of each round, under an integer made of
    the hash of its weights; else it reads the folder of each round in the place of its weights (vLLM 0.14). Between
    rounds it sleeps: with LoRA at level 1, which keeps the base in CPU memory, for vLLM's reading of weights at level 2
    fails with adapters in many versions (its issue 39934); else at level 2, which keeps nothing. With several processes
    each has its own on its GPU, with the whole model. Random numbers are vLLM's own: a run that is killed goes on, but
    not to the same bits.
    """

    gpu_memory_utilization: float = 0.3
    """Share of the GPU's memory for its weights and cache, while it draws."""
    sleep: bool = True
    """Sleep while the model trains; false keeps weights and cache on the GPU all the time."""
    together: int = 1024
    """Samples of a batch, at least; they are kept once all of it is drawn, so that a kill costs one batch."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further ones of `vllm.LLM`, such as {dtype: bfloat16, max_model_len: 4096, enforce_eager: true}."""
    most_difference: float = 0.2
    """Mean difference of its log-probabilities from ours, in nats a token, above which what it drew is refused."""
    importance_cap: float | None = IMPORTANCE_CAP

    def __post_init__(self) -> None:
        if not 0 < self.gpu_memory_utilization < 1 or self.together < 1:
            raise ConfigError(
                "ColocatedVLLM: gpu_memory_utilization must lie in (0, 1) and together be at least 1, got "
                f"{self.gpu_memory_utilization:g}, {self.together}"
            )
        if taken := sorted(set(self.options) & set(OURS)):
            raise ConfigError(f"ColocatedVLLM.options must not set {', '.join(taken)}: the run does, leave it out")
        self.check_numbers()

    def begin(self, run: SampledRun) -> ColocatedRun:
        """Return what draws the samples of a run.

        Raises ConfigError where vLLM is not installed, is too old, or cannot sleep on this machine.
        """
        vllm = import_vllm()
        if missing := [name for name in CALLS if not hasattr(vllm.LLM, name)]:
            raise ConfigError(f"ColocatedVLLM: this vLLM has no LLM.{missing[0]}: install 0.11 or later")
        platform = vllm.platforms.current_platform
        if self.sleep and not platform.is_sleep_mode_available():
            raise ConfigError(
                f"ColocatedVLLM.sleep: vLLM cannot sleep on {platform.device_type or 'this machine'}, it needs CUDA or "
                "ROCm: set sleep to false, or use another engine"
            )
        if run.generation.top_p < 1:
            rank_zero_info("vLLM tells log-probabilities after top_p, which ours are not: they are not compared")
        given: Any = {"share": self.gpu_memory_utilization, "sleeps": self.sleep, "options": self.options}
        return ColocatedRun(self, VLLMOfRun(run, vllm, **given))


class ColocatedRun(RunEngine):
    """Draws the rounds of a run by the vLLM of this process."""

    def __init__(self, kind: ColocatedVLLM, vllm: VLLMOfRun) -> None:
        self.kind, self.vllm = kind, vllm

    def of(self, policy: RoundPolicy) -> ColocatedEngine:
        """Return the engine that draws from the module as it is."""
        difference = self.vllm.run.difference(self.kind.most_difference)
        return ColocatedEngine(self.vllm, policy, difference, self.kind.together)

    def finish(self) -> None:
        """Let vLLM go."""
        self.vllm.leave()


class ColocatedEngine(Engine):
    """Draws one round by vLLM in this process; its first samples are compared with our scorer before they are kept."""

    def __init__(self, vllm: VLLMOfRun, policy: RoundPolicy, difference: EngineDifference, together: int) -> None:
        self.vllm, self.policy, self.difference, self.together = vllm, policy, difference, together

    def ready(self) -> None:
        """Give vLLM the policy. Raises ConfigError for one that it does not serve."""
        self.vllm.take(self.policy)

    def rest(self) -> None:
        """Let vLLM sleep until the next round."""
        self.vllm.rest()

    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job. Raises ModelError where they are of another policy than ours."""
        found = self.vllm.draw(self.policy, jobs, settings, round_number)
        pairs = [(job.request, one) for job, own in zip(jobs, found, strict=True) for one in own]
        self.difference.add([Drawn(request, one, self.vllm) for request, one in pairs])
        return found

    def in_step(self) -> AbstractContextManager[None]:
        """Return the context in which a sharded model scores what vLLM drew."""
        return in_step([self.difference.model])

    def measured(self) -> dict[str, float]:
        """Return how far its log-probabilities were from ours in this round; every process calls."""
        return self.difference.measured()
