"""Frozen layers that FSDP2 shards are held in bfloat16 too: half the memory, and to the bit the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from align.models.backbone import LoRA
from align.models.file_weights import FileWeight, weights_in_files
from align.models.held_short import STAYS, hold_short
from align.models.sharding import shard
from align.scoring import score_responses
from align.scoring.short_linear import ShortLinear
from tests.models.test_held_short import policy
from tests.tiny import random_batch, save_tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose files are in bfloat16."""
    return save_tiny(tmp_path / "short", dtype=torch.bfloat16, tie_word_embeddings=False)


def step(model: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        logprobs = score_responses(model, random_batch([2, 2])).logprobs
    if logprobs.requires_grad:
        logprobs.sum().backward()
    return logprobs.detach(), [p.grad.full_tensor() for p in model.parameters() if p.grad is not None]


def bytes_of(model: Any) -> int:
    """Bytes of linear layers' frozen weights that this process holds."""
    frozen = [p for p in model.parameters() if not p.requires_grad and p.dim() == 2]
    assert all(isinstance(p, DTensor) for p in frozen)
    return sum(p.to_local().nbytes for p in frozen)


@pytest.mark.parametrize("lora", [LoRA(r=2), LoRA(r=2, use_dora=True), None], ids=["lora", "dora", "copy"])
def test_shards_are_half_as_large_and_the_same_to_the_bit(folder: Path, lora: LoRA | None, mesh: DeviceMesh) -> None:
    models, sizes = [], []
    for short in (False, True):
        with weights_in_files():
            model = policy(folder, lora)
        if lora is None:
            model.requires_grad_(False)
            setattr(model, STAYS, True)
        if short:
            hold_short(model)
            held = [part.weight for part in model.modules() if isinstance(part, ShortLinear)]
            assert held
            assert all(isinstance(own, FileWeight) and own.held.dtype == torch.bfloat16 for own in held)
        rows = model.get_input_embeddings().weight.nbytes
        shard(model, mesh, "bf16-mixed")
        models.append(model)
        sizes.append(bytes_of(model) - rows)
    (plain, gradients), (own, others) = step(models[0]), step(models[1])
    assert torch.equal(plain, own)
    assert len(gradients) == len(others)
    assert all(torch.equal(*pair) for pair in zip(gradients, others, strict=True))
    assert sizes[1] == sizes[0] / 2
