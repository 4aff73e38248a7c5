"""vLLM in this process: continuous batching and paged caches, on a GPU. An extra: `pip install align-lm[vllm]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.errors import ConfigError
from align.models.folder_checks import ADAPTER_CONFIG, base_of, local_folder, read_json
from align.models.foreign_code import may_run_code
from align.sampling.engine import Engine
from align.sampling.generation import Completion, Finish, Generation, Job, sample_key
from align.sampling.stopping_criteria import StopCriteria

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What `max_lora_rank` may be (vllm/config/lora.py)."""


class VLLMEngine(Engine):
    """Samples from a model or adapter folder; an adapter is applied, not merged. Its random numbers are vLLM's own."""

    def __init__(
        self, path: str, tokenizer: Any, eos_ids: Sequence[int], *, stop: Sequence[str] = (), **options: Any
    ) -> None:
        """Load the model.

        Args:
            path: Model or adapter folder, or a hub id.
            tokenizer: Its tokenizer.
            eos_ids: Tokens that end a response.
            stop: Texts that end a response.
            options: Of `vllm.LLM`, such as `gpu_memory_utilization`.

        Raises ConfigError where vLLM is not installed.
        """
        try:
            import vllm
            from vllm.lora.request import LoRARequest
        except ImportError as error:
            raise ConfigError(
                f"the vLLM engine needs the package vllm ({error}): pip install 'align-lm[vllm]', or use another engine"
            ) from error
        base, adapter = _base_of(path)
        options = {"enable_prefix_caching": True, "load_format": "safetensors", **options}
        if adapter is not None:
            options |= {"enable_lora": True, "max_lora_rank": served_rank(read_json(Path(adapter) / ADAPTER_CONFIG))}
        self._lora = None if adapter is None else LoRARequest("policy", 1, adapter)
        self._vllm, self._model = vllm, vllm.LLM(model=base, trust_remote_code=may_run_code(base), **options)
        self.ends = StopCriteria(tokenizer, eos_ids, stop)

    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job; each sample is a request with a seed of its own."""
        asked = [(job, k) for job in jobs for k in job.numbers]
        prompts = [{"prompt_token_ids": list(job.request.ids)} for job, _ in asked]
        keys = [sample_key(settings.seed, round_number, job.request.id, k) for job, k in asked]
        found = self._model.generate(
            prompts, [self._parameters(settings, key) for key in keys], lora_request=self._lora, use_tqdm=False
        )
        done = iter([self._completion(output.outputs[0]) for output in found])
        return [[next(done) for _ in job.numbers] for job in jobs]

    def _parameters(self, settings: Generation, key: int) -> Any:
        return self._vllm.SamplingParams(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_new_tokens,
            seed=key % 2**31,
            stop=list(self.ends.stop) or None,
            stop_token_ids=self.ends.eos_ids,
        )

    def _completion(self, output: Any) -> Completion:
        stopped = isinstance(output.stop_reason, str)
        finish: Finish = "length" if output.finish_reason == "length" else "stop" if stopped else "eos"
        return self.ends.completion(list(output.token_ids), finish)


def served_rank(adapter: Mapping[str, Any]) -> int:
    """Return the least `max_lora_rank` that serves an adapter. vLLM takes some only, and 1 not in all versions."""
    rank = max(int(adapter["r"]), *map(int, (adapter.get("rank_pattern") or {}).values()), 1)
    found = next((known for known in RANKS if known >= rank), None)
    if found is None:
        raise ConfigError(f"vLLM serves adapters of rank {RANKS[-1]} at most, this one has {rank}: merge it first")
    return found


def _base_of(path: str) -> tuple[str, str | None]:
    """Return the base model and the adapter folder of a path."""
    folder = local_folder(path)
    if folder is None or not (folder / ADAPTER_CONFIG).exists():
        return path, None
    return base_of(folder), str(folder)
