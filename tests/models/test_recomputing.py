"""Activations computed again: what is trained is the same, and memory is what a plan says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from align.errors import ConfigError
from align.models.backbone import Backbone, LoRA
from align.models.loading import load_policy
from align.models.tokenizer import load_tokenizer
from align.modules.sft import SFTModule
from align.scoring.layouts import count_positions
from align.sizing.fake_tensors import LiveBytes, storages
from align.sizing.groups import TypicalGroup
from align.sizing.pass_cost import PassConditions
from align.sizing.sized import Sized
from benchmarks.gpu.shapes import CHECKED, LLAMA_8B

GROUPS = TypicalGroup(prompt=60, response=30)
SMALL = replace(CHECKED, sizes={**CHECKED.sizes, "vocab_size": 1024})
Again = Literal["selective"] | bool


def step(folder: str, again: Again, lora: LoRA | None) -> tuple[float, list[Tensor], float, float]:
    """Return the loss of a step, its gradients, the bytes it took and those of the plan."""
    module = SFTModule(
        Backbone(folder, random_init=True, check=False, lora=lora, gradient_checkpointing=again, layout="packed")
    )
    plan = Sized.of(module, GROUPS, PassConditions("packed", mixed=False, gpu=False), 1200)
    batch = GROUPS.batch(10)
    expected = plan.batch(count_positions(batch, plan.cost.layout)[0])
    torch.manual_seed(0)
    module.build_model()
    trained: list[Any] = [p for p in module.model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    live = LiveBytes(storages(module))
    with live:
        loss = module.loss(batch, batch.totals)
        loss.backward()
    return float(loss), [p.grad for p in trained], live.peak, expected.activations + expected.working


@pytest.mark.parametrize("lora", [None, pytest.param(LoRA(r=4), marks=pytest.mark.slow)])
def test_selective_trains_the_same_to_the_bit_in_less_memory(lora: LoRA | None, tmp_path: Path) -> None:
    """Against a step that keeps all, and its storages counted as they come and go."""
    folder = SMALL.folder(tmp_path)
    loss, gradients, most, _ = step(folder, False, lora)
    again, same, peak, planned = step(folder, "selective", lora)
    assert again == loss
    assert all(torch.equal(own, other) for own, other in zip(gradients, same, strict=True))
    assert planned == pytest.approx(peak, rel=0.05)
    if lora is None:
        assert peak < 0.8 * most


@pytest.mark.slow
def test_selective_keeps_products_and_attention_of_an_8b_layer(tmp_path: Path) -> None:
    """Bytes a position and layer by hand: a block's input in float32, what its products and attention give in bfloat16."""
    module = SFTModule(Backbone(LLAMA_8B.folder(tmp_path), gradient_checkpointing="selective"))
    plan = Sized.of(module, TypicalGroup(), PassConditions("packed", mixed=True), 8600)
    outputs = 2 * (4096 + 1024 + 1024 + 4096 + 14336 + 14336 + 4096)
    attention = 2 * 4096 + 4 * 32
    assert plan.cost.kept.each / 32 == pytest.approx(4 * 4096 + outputs + attention, rel=0.1)


@pytest.mark.bad_input
def test_a_compiler_chooses_by_itself(tmp_path: Path) -> None:
    backbone = Backbone(SMALL.folder(tmp_path), random_init=True, compile=True, gradient_checkpointing="selective")
    with pytest.raises(ConfigError, match="selective chooses what is kept, and so does the compiler"):
        load_policy(backbone, load_tokenizer(backbone))
