"""Every layout against a plain float64 forward of transformers over each candidate alone, on a CPU."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import Tensor

from align.models.packed_attention import use_packed_attention
from align.records import CandidateBatch
from align.scoring import score_responses
from align.scoring.layouts import LAYOUTS
from tests.formulas.logprobs import plain_logprobs
from tests.tiny import random_batch, tiny_model

pytestmark = pytest.mark.gpu
BATCHES = {
    "one": random_batch([1, 1], longest=40),
    "pairs": random_batch([2, 2, 2, 2], longest=60),
    "mixed": random_batch([1, 4, 2, 3], longest=40),
    "sixteen": random_batch([16], longest=30),
}
SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}


def weighted_sum(logprobs: Tensor) -> Tensor:
    """Another weight for every candidate, so that none can stand for another."""
    return (logprobs * torch.linspace(0.5, 1.5, len(logprobs), device=logprobs.device)).sum()


def expected(family: str, batch: CandidateBatch) -> tuple[Tensor, Tensor]:
    model = small(family).double()
    logprobs = plain_logprobs(model, batch)
    weighted_sum(logprobs).backward()
    return logprobs.detach(), gradient_of(model)


def small(family: str) -> Any:
    model = tiny_model(family, **SIZES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3)  # sharper ones would show bfloat16's rounding and nothing else
    return model


def gradient_of(model: Any) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()]).double().cpu()


def measured(family: str, batch: CandidateBatch, layout: str, device: str, short: bool) -> tuple[Tensor, Tensor]:
    model = small(family).to(device)
    use_packed_attention(model)
    moved = move_data_to_device(batch, torch.device(device))
    with torch.autocast(device, torch.bfloat16) if short else contextlib.nullcontext():
        logprobs = score_responses(model, moved, layout=layout).logprobs
    weighted_sum(logprobs).backward()
    return logprobs.detach().double().cpu(), gradient_of(model)


def off(found: Tensor, right: Tensor) -> float:
    return ((found - right).norm() / right.norm()).item()


@pytest.mark.parametrize("sizes", BATCHES)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_layouts_equal_plain_float64(family: str, sizes: str, device: str) -> None:
    """In float32 to its rounding; in bfloat16 as well as padded rows, which transformers computes by itself."""
    batch = BATCHES[sizes]
    right, gradient = expected(family, batch)
    short = {}
    for layout in LAYOUTS:
        logprobs, own = measured(family, batch, layout, device, short=False)
        assert off(logprobs, right) < 2e-6, layout
        assert off(own, gradient) < 2e-5, layout
        logprobs, own = measured(family, batch, layout, device, short=True)
        short[layout] = off(logprobs, right), off(own, gradient)
    for layout, differences in short.items():
        for found, padded, bound in zip(differences, short["padded"], (5e-4, 2e-2), strict=True):
            assert found < 2 * padded + bound / 10, (layout, short)
            assert found < bound, (layout, short)
