"""One vLLM in the training process over a whole run: which weights it has, and whether it sleeps."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info

from align.distributed import rank, world_size
from align.errors import ConfigError
from align.models.folder_checks import base_of
from align.models.foreign_code import may_run_code
from align.sampling.engine_kind import RoundPolicy, SampledRun
from align.sampling.generation import Generation, Job
from align.sampling.policy_server import ServedPolicy
from align.sampling.undisturbed import undisturbed
from align.sampling.vllm import draw, loading, lora_request

WEIGHTS, CACHE = "weights", "kv_cache"
"""Tags of what sleeps (vllm docs/features/sleep_mode.md)."""


class VLLMOfRun:
    """Loaded when the first round is sampled, and given every round's policy in place."""

    place, names_weights = "vLLM in this process", True

    def __init__(self, run: SampledRun, vllm: Any, *, share: float, sleeps: bool, options: dict[str, Any]) -> None:
        """Load nothing yet.

        Args:
            run: What is sampled.
            vllm: The package.
            share: Of the GPU's memory.
            sleeps: Whether it sleeps while the model trains.
            options: Further ones of `vllm.LLM`.
        """
        self.run, self.vllm, self.share, self.sleeps, self.options = run, vllm, share, sleeps, options
        self.level = 1 if run.adapted else 2
        generation = run.generation
        self.processed = generation.temperature > 0
        """Whether its log-probabilities are those after temperature and top_p (`processed_logprobs`)."""
        self._model: Any = None
        self._lora: Any = None
        self._held = ""
        self._asleep = False

    def take(self, policy: RoundPolicy) -> None:
        """Give vLLM the weights of the module as it is, and wake it up; every process calls.

        Weights come before the cache, so that there is room to read them. Raises ConfigError for what it cannot read.
        """
        run, whole = self.run, not self.run.adapted
        written = run.policies.write(run.module, policy.prompt_format, policy.weights, whole=whole)
        with undisturbed():
            if self._model is None:
                self._start(written)
            elif self._asleep:
                self._model.wake_up(tags=[WEIGHTS])
            if whole:
                self._read(written)
            else:
                self._lora = lora_request(written.folder, policy.weights)
            if self._asleep:
                self._model.wake_up(tags=[CACHE])
                self._asleep = False
            if self._held != policy.weights:
                self._model.reset_prefix_cache()
        self._held = policy.weights

    def draw(self, policy: RoundPolicy, jobs: Sequence[Job], settings: Generation, number: int) -> list[Any]:
        """Return the completions of every job, by the weights it was given last."""
        assert self._held == policy.weights
        ends = policy.ends(self.run.module)
        with undisturbed():
            return draw(self.vllm, self._model, jobs, settings, number, ends=ends, lora=self._lora)

    def rest(self) -> None:
        """Sleep, where it should."""
        if self._model is not None and self.sleeps and not self._asleep:
            with undisturbed():
                self._model.sleep(level=self.level)
            self._asleep = True

    def leave(self) -> None:
        """Let vLLM go."""
        self._model = None
        gc.collect()

    def _start(self, policy: ServedPolicy) -> None:
        """Load the base of an adapter, or the whole model as it was written."""
        adapter = policy.folder if self.run.adapted else None
        base = str(policy.folder) if adapter is None else base_of(adapter)
        with _named_process():
            self._model = self.vllm.LLM(
                trust_remote_code=may_run_code(base),
                model=base,
                **loading(adapter),
                **({} if adapter is None else {"max_loras": 1}),
                gpu_memory_utilization=self.share,
                enable_sleep_mode=self.sleeps,
                logprobs_mode="processed_logprobs",
                distributed_executor_backend="external_launcher",
                tensor_parallel_size=1,
                seed=rank(),
                **self.options,
            )
        rank_zero_info(f"rounds are sampled by vLLM in {world_size()} training processes, each the whole model")

    def _read(self, policy: ServedPolicy) -> None:
        """Read all weights from a folder; also at the start, so that a version that cannot is seen at once."""
        try:
            self._model.collective_rpc("reload_weights", kwargs={"weights_path": str(policy.folder)})
        except TypeError as error:
            raise ConfigError(
                f"ColocatedVLLM: this vLLM reads no weights from a folder in the place of its own ({error}): install "
                "0.14 or later, or set model.backbone.lora.r"
            ) from error


@contextmanager
def _named_process() -> Iterator[None]:
    """Set what vLLM's `external_launcher` reads of a process while it starts, where no launcher has.

    TRL 1.16 has an engine in every process in the same way (trl/generation/vllm_generation.py).
    """
    named = {
        "RANK": str(rank()),
        "LOCAL_RANK": str(torch.cuda.current_device() if torch.cuda.is_available() else 0),
        "WORLD_SIZE": str(world_size()),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    missing = {name: value for name, value in named.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
