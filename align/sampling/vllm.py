"""vLLM in this process: continuous batching and paged caches, on a GPU. An extra: `pip install align-lm[vllm]`."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.errors import ConfigError, ModelError
from align.files import file_hash
from align.models.folder_checks import ADAPTER_CONFIG, base_of, local_folder, read_json
from align.models.foreign_code import may_run_code
from align.sampling.engine import Engine
from align.sampling.generation import Completion, Finish, Generation, Job, sample_key
from align.sampling.stopping_criteria import StopCriteria

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What `max_lora_rank` may be (vllm/config/lora.py)."""
UNSERVED = {"use_dora": "DoRA", "modules_to_save": "modules that are trained whole (modules_to_save)"}
"""What it refuses in an adapter (vllm/lora/peft_helper.py), and what it would leave out in silence."""
LEFT_OUT = {"trainable_token_indices": "rows of the embedding", "target_parameters": "parameters outside modules"}


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

        Raises ConfigError where vLLM is not installed, or serves no such adapter.
        """
        vllm = import_vllm()
        base, adapter = _base_of(path)
        options = {**loading(adapter), **options}
        self._lora = None if adapter is None else lora_request(adapter, file_hash(weights_of(adapter)))
        self._vllm, self._model = vllm, vllm.LLM(trust_remote_code=may_run_code(base), model=base, **options)
        self.ends = StopCriteria(tokenizer, eos_ids, stop)

    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job; each sample is a request with a seed of its own."""
        asked: Any = {"ends": self.ends, "lora": self._lora, "others_end": True}
        return draw(self._vllm, self._model, jobs, settings, round_number, **asked)


def import_vllm() -> Any:
    """Return vLLM. Raises ConfigError where it is not installed."""
    try:
        import vllm

        for part in ("vllm.lora.request", "vllm.platforms"):
            importlib.import_module(part)
    except ImportError as error:
        raise ConfigError(
            f"the vLLM engine needs the package vllm ({error}): pip install 'align-lm[vllm]', or use another engine"
        ) from error
    return vllm


def loading(adapter: Path | None) -> dict[str, Any]:
    """Return how a model is loaded, with an adapter or without. Raises ConfigError for one that vLLM does not serve."""
    options: dict[str, Any] = {"enable_prefix_caching": True, "load_format": "safetensors"}
    if adapter is None:
        return options
    config = read_json(adapter / ADAPTER_CONFIG)
    check_served(config)
    return options | {"enable_lora": True, "max_lora_rank": served_rank(config)}


def lora_request(adapter: Path, weights: str) -> Any:
    """Return what asks for an adapter by the hash of its weights, in hexadecimal.

    vLLM keeps adapters by their integer alone (vllm/lora/worker_manager.py), and cached prompts by it too: a constant
    one would answer by the former adapter.
    """
    return import_vllm().lora.request.LoRARequest(f"align-{weights[:16]}", lora_id(weights), str(adapter))


def lora_id(weights: str) -> int:
    """Return the positive 31-bit integer of a hash."""
    return int(weights[:15], 16) % (2**31 - 1) + 1


def weights_of(adapter: Path) -> Path:
    """Return the file of an adapter's weights. Raises ModelError where it is missing."""
    found = next(iter(sorted(adapter.glob("adapter_model.*"))), None)
    if found is None:
        raise ModelError(f"adapter {adapter}: no adapter_model.safetensors: write it again")
    return found


def draw(
    vllm: Any,
    model: Any,
    jobs: Sequence[Job],
    settings: Generation,
    round_number: int,
    *,
    ends: StopCriteria,
    lora: Any = None,
    others_end: bool = False,
) -> list[list[Completion]]:
    """Return the completions of every job, each sample a request with a seed of its own, with log-probabilities.

    With `others_end` a sample ends at what the model's own generation settings call an end too.

    Raises ModelError for an answer that is not one sample of its prompt.
    """
    asked = [(job, k) for job in jobs for k in job.numbers]
    prompts = [{"prompt_token_ids": list(job.request.ids)} for job, _ in asked]
    keys = [sample_key(settings.seed, round_number, job.request.id, k) for job, k in asked]
    parameters = [vllm.SamplingParams(**drawing(settings, key, ends), ignore_eos=not others_end) for key in keys]
    found = model.generate(prompts, parameters, lora_request=lora, use_tqdm=False)
    if len(found) != len(asked):
        raise ModelError(f"vLLM: {len(found)} answers to {len(asked)} requests")
    done = iter([_completion(one, job, ends, others_end) for one, (job, _) in zip(found, asked, strict=True)])
    return [[next(done) for _ in job.numbers] for job in jobs]


def drawing(settings: Generation, key: int, ends: StopCriteria) -> dict[str, Any]:
    """Return all that is asked of `SamplingParams`, so that nothing comes from the model's own generation settings."""
    plain = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    ending = {"stop_token_ids": list(ends.eos_ids), "stop": list(ends.stop) or None}
    return {
        "n": 1,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_tokens": settings.max_new_tokens,
        "seed": key % 2**31,
        "logprobs": 0,
        **plain,
        **ending,
    }


def _completion(answer: Any, job: Job, ends: StopCriteria, others_end: bool) -> Completion:
    """Return the sample of an answer: tokens, and the log-probability of each."""
    output, ids = answer.outputs[0], list(answer.outputs[0].token_ids)
    if list(answer.prompt_token_ids) != list(job.request.ids) or not ids:
        raise ModelError(f"vLLM: {len(ids)} tokens to another prompt than {job.request.id}, or none")
    if output.finish_reason not in ("stop", "length"):
        raise ModelError(f"vLLM: a sample of prompt {job.request.id} ended by {output.finish_reason!r}")
    stopped = isinstance(output.stop_reason, str)
    finish: Finish = "length" if output.finish_reason == "length" else "stop" if stopped else "eos"
    if finish == "eos" and not others_end and ids[-1] not in ends.eos_ids:
        raise ModelError(f"vLLM: a sample that ended without its last token {ends.eos_ids}, got {ids[-1]}")
    told = output.logprobs
    if told is None or len(told) != len(ids):
        raise ModelError(f"vLLM: {0 if told is None else len(told)} log-probabilities of {len(ids)} tokens")
    logprobs = [float(step[token].logprob) for step, token in zip(told, ids, strict=True)]
    return ends.completion(ids, finish)._replace(logprobs=[round(v, 6) if math.isfinite(v) else v for v in logprobs])


def served_rank(adapter: Mapping[str, Any]) -> int:
    """Return the least `max_lora_rank` that serves an adapter. vLLM takes some only, and 1 not in all versions."""
    rank = max(int(adapter["r"]), *map(int, (adapter.get("rank_pattern") or {}).values()), 1)
    found = next((known for known in RANKS if known >= rank), None)
    if found is None:
        raise ConfigError(f"vLLM serves adapters of rank {RANKS[-1]} at most, this one has {rank}: merge it first")
    return found


def check_served(adapter: Mapping[str, Any]) -> None:
    """Raise ConfigError for an adapter that vLLM refuses, or would apply a part of."""
    kind = adapter.get("peft_type", "LORA")
    found = None if kind == "LORA" else f"adapters of the kind {kind}"
    if adapter.get("bias", "none") != "none":
        found = f"biases of adapters (bias: {adapter['bias']})"
    for name, told in {**UNSERVED, **LEFT_OUT}.items():
        found = told if adapter.get(name) else found
    if found:
        raise ConfigError(f"vLLM does not serve {found}: train plain LoRA, merge the adapter, or use another engine")


def _base_of(path: str) -> tuple[str, Path | None]:
    """Return the base model and the adapter folder of a path."""
    folder = local_folder(path)
    if folder is None or not (folder / ADAPTER_CONFIG).exists():
        return path, None
    return base_of(folder), folder
