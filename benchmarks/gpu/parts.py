"""Parts of a run beside its passes: sampling, and what follows the backward pass."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from align.modules.sft import SFTModule
from align.sampling.generation import Generation, Request
from align.sampling.local import TransformersEngine
from align.sampling.sampler import Sampler
from align.training.checkpoint_io import AtomicCheckpointIO
from align.training.metrics import total_norm
from benchmarks.gpu.shapes import Shape
from benchmarks.gpu.step_meter import Stopwatch, peak_gib, restart_peak
from benchmarks.gpu.training import built, quiet

GONE = -1
"""A token that no model draws, so that no sample ends before its limit."""


@dataclass(frozen=True)
class Drawing:
    """Samples to be drawn: so many of every prompt, of so many tokens."""

    shape: Shape
    prompts: list[list[int]]
    samples: int
    tokens: int

    def measure(self, side: str, device: str) -> dict[str, Any]:
        """Draw with the engine of align or with `generate`, once to warm up, and return what it took."""
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        name = {torch.bfloat16: "bfloat16", torch.float32: "float32"}[dtype]
        with tempfile.TemporaryDirectory() as folder, quiet(), torch.no_grad():
            if side == "ours":
                module = built(SFTModule, self.shape, Path(folder), device, lora=None, dtype=name)
                engine = TransformersEngine(module.model.to(dtype).eval(), module.tokenizer, [GONE])
                draw: Callable[[], int] = lambda: self.ours(engine)  # noqa: E731
            else:
                with torch.device(device):
                    model = AutoModelForCausalLM.from_config(
                        self.shape.config, dtype=dtype, trust_remote_code=False
                    ).eval()
                draw = lambda: self.generate(model, device)  # noqa: E731
            draw()
            restart_peak(device)
            watch = Stopwatch(device)
            drawn = draw()
            seconds = watch.stop()
        assert drawn == len(self.prompts) * self.samples * self.tokens
        return {"tokens_per_s": drawn / seconds, "seconds": seconds, "peak_gib": peak_gib(device)}

    def ours(self, engine: TransformersEngine) -> int:
        """Draw with align; return the tokens drawn."""
        settings = Generation(max_new_tokens=self.tokens, num_samples=self.samples, batch_tokens=2**20)
        requests = [Request(str(i), ids) for i, ids in enumerate(self.prompts)]
        return sum(len(sample.ids) for sample in Sampler(engine, settings).sample(requests))

    def generate(self, model: Any, device: str) -> int:
        """Draw with transformers, all prompts in one left-padded batch; return the tokens drawn."""
        width = max(map(len, self.prompts))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in self.prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in self.prompts], device=device)
        asked = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "eos_token_id": None}
        counts = {"num_return_sequences": self.samples, "max_new_tokens": self.tokens, "pad_token_id": 2}
        output = model.generate(ids, attention_mask=mask, **asked, **counts)
        return int(output[:, width:].numel())


def after_backward(shape: Shape, device: str) -> dict[str, Any]:
    """Return milliseconds of the norm, of clipping and of AdamW, and the rate of a checkpoint of the weights."""
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(shape.config, trust_remote_code=False)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    trained = list(model.parameters())
    gradients = [p.grad for p in trained if p.grad is not None]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, weight_decay=0.0, fused=True)
    norm = total_norm(gradients)
    numbers = sum(p.numel() for p in trained)
    found = {
        "norm_ms": milliseconds(lambda: total_norm(gradients), device),
        "clip_ms": milliseconds(lambda: nn.utils.clip_grads_with_norm_(trained, 1.0, norm), device),
        "adamw_ms": milliseconds(optimizer.step, device),
    }
    found["adamw_gb_per_s"] = 7 * 4 * numbers / found["adamw_ms"] / 1e6  # reads four arrays and writes three
    return {**found, **saving(model, numbers, device)}


def saving(model: nn.Module, numbers: int, device: str) -> dict[str, float]:
    """Return how long a checkpoint of the weights takes, whole or absent, synced and hashed."""
    with tempfile.TemporaryDirectory() as folder:
        watch = Stopwatch(device)
        AtomicCheckpointIO().save_checkpoint({"state_dict": model.state_dict(), "align": {}}, f"{folder}/last.ckpt")
        seconds = watch.stop()
    return {"save_s": seconds, "save_gb_per_s": 4 * numbers / seconds / 1e9}


def milliseconds(work: Callable[[], Any], device: str, repeats: int = 5) -> float:
    """Return the mean time of a piece of work."""
    work()
    watch = Stopwatch(device)
    for _ in range(repeats):
        work()
    return 1e3 * watch.stop() / repeats
