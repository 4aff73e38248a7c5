"""A stand-in for the package vllm: what we call of it, as its sources and docs/features/sleep_mode.md have it.

It really draws, from the model and PEFT's adapters. Adapters are kept by their integer; prompts that were read are kept
by their tokens and that integer, whatever the weights are now, until `reset_prefix_cache`; at sleep level 2 weights are
lost, and what is woken up without reading them is noise; it seeds the process, as vLLM does. What is not there:
continuous batching, the GPU, and any speed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

BOTH = ["weights", "kv_cache"]


class LoRARequest(NamedTuple):
    """vllm/lora/request.py."""

    lora_name: str
    lora_int_id: int
    lora_path: str


class SamplingParams(SimpleNamespace):
    """vllm/sampling_params.py: keyword arguments."""


class LLM:
    """vllm/entrypoints/llm.py."""

    log: Path
    without_path = False
    """Whether it is a version whose `reload_weights` takes no path."""

    def __init__(self, model: str, *, seed: int, enable_sleep_mode: bool = False, **options: Any) -> None:
        self.note("LLM", model=model, enable_sleep_mode=enable_sleep_mode, **options)
        torch.manual_seed(seed)
        self.options, self.sleeps = options, enable_sleep_mode
        self.plain: Any = AutoModelForCausalLM.from_pretrained(model).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.adapters: dict[int, Any] = {}
        self.read: dict[Any, torch.Tensor] = {}
        self.awake, self.lost = set(BOTH), False

    def note(self, call: str, **values: Any) -> None:
        with self.log.open("a") as file:
            print(json.dumps({"call": call, **values}), file=file)

    def sleep(self, level: int = 1) -> None:
        assert self.sleeps
        self.note("sleep", level=level)
        self.awake.clear()
        self.read.clear()
        if level == 2:
            self.lost = True
            with torch.no_grad():
                for parameter in self.plain.parameters():
                    parameter.normal_()

    def wake_up(self, tags: list[str] | None = None) -> None:
        self.note("wake_up", tags=tags)
        self.awake |= set(tags or BOTH)

    def reset_prefix_cache(self) -> bool:
        self.note("reset_prefix_cache")
        self.read.clear()
        return True

    def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> list[None]:
        assert method == "reload_weights"
        assert "weights" in self.awake
        if self.without_path:
            raise TypeError("Worker.reload_weights() got an unexpected keyword argument 'weights_path'")
        self.note(method, **kwargs)
        self.plain.load_state_dict(AutoModelForCausalLM.from_pretrained(kwargs["weights_path"]).state_dict())
        self.lost = False
        return [None]

    def generate(
        self, prompts: list[dict[str, Any]], params: list[SamplingParams], *, lora_request: Any, use_tqdm: bool
    ) -> list[Any]:
        assert self.awake == set(BOTH)
        torch.rand(3)  # random numbers of the process are its own
        model = self.plain if lora_request is None else self.adapted(lora_request)
        number = 0 if lora_request is None else lora_request.lora_int_id
        self.note("generate", count=len(prompts), lora=number, seeds=[one.seed for one in params])
        return [
            self.draw(model, one["prompt_token_ids"], how, number) for one, how in zip(prompts, params, strict=True)
        ]

    def adapted(self, asked: LoRARequest) -> Any:
        assert self.options["enable_lora"]
        if asked.lora_int_id not in self.adapters:
            config = json.loads((Path(asked.lora_path) / "adapter_config.json").read_text())
            if config["r"] > self.options["max_lora_rank"]:
                raise ValueError(f"LoRA rank {config['r']} is greater than max_lora_rank")
            plain = AutoModelForCausalLM.from_pretrained(self.plain.name_or_path)
            self.adapters = {asked.lora_int_id: PeftModel.from_pretrained(plain, asked.lora_path).eval()}
        return self.adapters[asked.lora_int_id]

    @torch.no_grad()
    def draw(self, model: Any, prompt: list[int], how: SamplingParams, number: int) -> Any:
        ids, told = list(prompt), []
        stream = torch.Generator().manual_seed(how.seed)
        assert (how.top_k, how.min_p, how.logprobs, how.repetition_penalty) == (-1, 0.0, 0, 1.0)
        reason, stopped = "length", None
        for _ in range(how.max_tokens):
            key = (tuple(prompt), number) if len(ids) == len(prompt) else None
            if key is None or key not in self.read:
                logits = model(torch.tensor([ids])).logits[0, -1]
                self.read |= {} if key is None else {key: logits}
            logits = logits if key is None else self.read[key]
            probabilities = (logits / how.temperature).log_softmax(-1)
            token = int(torch.multinomial(probabilities.exp(), 1, generator=stream))
            ids.append(token)
            told.append({token: SimpleNamespace(logprob=float(probabilities[token]))})
            text = self.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
            found = next((mark for mark in how.stop or () if mark in text), None)
            own = not how.ignore_eos and token == self.plain.generation_config.eos_token_id
            if token in how.stop_token_ids or found or own:
                reason, stopped = "stop", found or token
                break
        output = SimpleNamespace(token_ids=ids[len(prompt) :], finish_reason=reason, stop_reason=stopped, logprobs=told)
        return SimpleNamespace(prompt_token_ids=prompt, outputs=[output])


def install(monkeypatch: pytest.MonkeyPatch, log: Path, *, sleeps: bool = True, **changes: Any) -> Callable[[], Any]:
    """Let `import vllm` find the stand-in; return what reads what was called of it."""
    made = type("LLM", (LLM,), {"log": log, **changes})
    platform = SimpleNamespace(device_type="cuda" if sleeps else "cpu", is_sleep_mode_available=lambda: sleeps)
    modules: dict[str, dict[str, Any]] = {
        "vllm": {"LLM": made, "SamplingParams": SamplingParams},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": LoRARequest},
        "vllm.platforms": {"current_platform": platform},
    }
    for name, parts in modules.items():
        module = ModuleType(name)
        vars(module).update(parts)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    return lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
