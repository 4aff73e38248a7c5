"""Sampling under mixed precision casts each trained weight once, not at every token, and draws the same."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from align.models.kept_casts import casts_kept
from align.sampling.generation import Generation, Sample
from align.sampling.sampler import sample
from tests.tiny import tiny_model, tiny_tokenizer

PROMPTS = [[0, 40, 41, 42, 43], [0, 50]]
SETTINGS = Generation(max_new_tokens=6, num_samples=2, seed=5)


class Casts(TorchDispatchMode):
    """Counts how often each weight becomes bfloat16."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.names = {id(weight): name for name, weight in model.named_parameters()}
        self.times: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ == "_to_copy" and id(args[0]) in self.names:
            self.times[self.names[id(args[0])]] += 1
        return func(*args, **(kwargs or {}))


def drawn(model: Any, *, kept: bool) -> tuple[list[Sample], Counter[str]]:
    casts = Casts(model)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):  # as Lightning has it
        with casts_kept(model) if kept else nullcontext(), casts:
            samples = sample(model, tiny_tokenizer(), PROMPTS, SETTINGS, eos_ids=[1])
        assert not torch.is_autocast_cache_enabled()
    return samples, casts.times


def test_a_weight_is_cast_once() -> None:
    model = tiny_model("llama")
    plain, often = drawn(model, kept=False)
    samples, once = drawn(model, kept=True)
    assert samples == plain
    assert max(often.values()) >= SETTINGS.max_new_tokens
    assert set(once) == set(often)
    assert set(once.values()) == {1}


def test_weights_that_have_changed_are_cast_again() -> None:
    model = tiny_model("llama")
    drawn(model, kept=True)
    with torch.no_grad():
        for weight in model.parameters():
            weight.neg_()
    assert drawn(model, kept=True)[0] == drawn(model, kept=False)[0]


def test_gradients_flow_afterwards() -> None:
    model = tiny_model("llama")
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        with torch.no_grad(), casts_kept(model):
            model(input_ids=torch.tensor(PROMPTS[:1]))
        model(input_ids=torch.tensor(PROMPTS[:1])).logits.float().square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())
