"""What runs are said to need, against saved tensors counted elsewhere, peaks of a card, and storages of real steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import Gemma4TextConfig

from align.models.backbone import Backbone, LoRA
from align.modules.dpo import DPOModule
from align.modules.sft import SFTModule
from align.scoring.layouts import count_positions
from align.sizing.fake_tensors import LiveBytes, storages
from align.sizing.groups import TypicalGroup
from align.sizing.memory import Spread
from align.sizing.pass_cost import PassConditions
from align.sizing.sized import Sized
from benchmarks.gpu.shapes import CHECKED, LLAMA_8B, QWEN_HALF_B, Shape


def sized(
    shape: Shape, folder: Path, groups: TypicalGroup, conditions: PassConditions, around: int, **settings: object
) -> Sized:
    backbone = Backbone(shape.folder(folder), **settings)  # type: ignore[arg-type]
    return Sized.of(DPOModule(backbone), groups, conditions, around)


@pytest.mark.parametrize(
    ("adapters", "dtype", "mixed", "layout", "again", "expected"),
    [
        (False, "float32", True, "packed", False, 285.7),
        (True, "bfloat16", True, "packed", False, 180.6),
        pytest.param(True, "bfloat16", False, "packed", False, 288.6, marks=pytest.mark.slow),
        pytest.param(False, "float32", False, "shared", False, 384.1, marks=pytest.mark.slow),
        pytest.param(True, "bfloat16", False, "shared", False, 300.6, marks=pytest.mark.slow),
        pytest.param(False, "float32", True, "packed", True, 16.0, marks=pytest.mark.slow),
        (True, "bfloat16", True, "packed", True, 8.0),
    ],
)
def test_an_8b_layer_keeps_what_saved_tensors_on_a_fake_gpu_say(
    adapters: bool, dtype: str, mixed: bool, layout: str, again: bool, expected: float, tmp_path: Path
) -> None:
    """KiB per token and layer, from saved tensors of fake CUDA tensors under CUDA's autocast (spec's `memory.py`, two
    layers less one, 8600 tokens); casts of weights are in its figures, and of two layers' checkpoints the copies are not."""
    settings = {"dtype": dtype, "lora": LoRA() if adapters else None, "gradient_checkpointing": again}
    cost = sized(LLAMA_8B, tmp_path, TypicalGroup(), PassConditions(layout, mixed), 8600, **settings).cost
    casts = 0.0 if again else cost.kept.fixed
    assert (casts + cost.kept.each * 8600) / 32 / 8600 / 1024 == pytest.approx(expected, rel=0.1)


HH, ULTRAFEEDBACK = TypicalGroup(prompt=117, response=52), TypicalGroup(prompt=223, response=331)
"""Mean lengths of the benchmark's pairs (`benchmarks/gpu/lengths.json`)."""
ADAPTERS = {"lora": LoRA(), "dtype": "bfloat16", "gradient_checkpointing": True}


@pytest.mark.parametrize(
    ("shape", "groups", "layout", "settings", "peak"),
    [
        (QWEN_HALF_B, HH, "packed", {}, 35.9),
        pytest.param(QWEN_HALF_B, ULTRAFEEDBACK, "packed", {}, 36.5, marks=pytest.mark.slow),
        pytest.param(QWEN_HALF_B, ULTRAFEEDBACK, "padded", {}, 36.3, marks=pytest.mark.slow),
        (LLAMA_8B, HH, "packed", ADAPTERS, 22.8),
        (
            LLAMA_8B,
            ULTRAFEEDBACK,
            "packed",
            {"lora": LoRA(), "dtype": "bfloat16", "gradient_checkpointing": True},
            22.1,
        ),
    ],
)
def test_peaks_measured_on_an_h100(
    shape: Shape, groups: TypicalGroup, layout: str, settings: dict[str, object], peak: float, tmp_path: Path
) -> None:
    """GiB of `max_memory_allocated` over DPO steps of 16384 positions (benchmarks/README.md)."""
    found = sized(shape, tmp_path, groups, PassConditions(layout, mixed=True), 16384, **settings).memory(
        16384, Spread()
    )
    assert found.total / 2**30 == pytest.approx(peak, rel=0.1)


SIZES = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "vocab_size": 1024}
SMALL = dataclasses.replace(CHECKED, sizes={**CHECKED.sizes, **SIZES})
"""For bfloat16, in which a processor without its instructions takes minutes."""
WIDTHS = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 12, "vocab_size": 512}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "global_head_dim": 32}
GEMMA_4 = Shape(Gemma4TextConfig, {**WIDTHS, **HEADS, "hidden_size_per_layer_input": 0})
"""Wide heads in every sixth layer, which the decoder finds by its number."""


@pytest.mark.parametrize(
    ("shape", "make", "mixed", "settings"),
    [
        (CHECKED, DPOModule, False, {}),
        (SMALL, DPOModule, True, {"lora": LoRA(), "dtype": "bfloat16"}),
        (CHECKED, SFTModule, False, {"gradient_checkpointing": True}),
        pytest.param(GEMMA_4, SFTModule, False, {}, marks=pytest.mark.slow),
    ],
)
def test_storages_of_a_real_step_on_this_cpu(
    shape: Shape, make: type, mixed: bool, settings: dict[str, object], tmp_path: Path
) -> None:
    """A real forward and backward pass afterwards, its storages counted as they come and go."""
    groups = TypicalGroup(prompt=60, response=30)
    path = shape.folder(tmp_path)
    module = make(Backbone(path, random_init=True, check=False, **settings))  # type: ignore[arg-type]
    plan = Sized.of(module, groups, PassConditions("auto", mixed, gpu=False), 1200)
    batch = groups.batch(10)
    expected = plan.batch(count_positions(batch, plan.cost.layout)[0])
    module.build_model()
    for parameter in module.model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    live = LiveBytes(storages(module))
    with live, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        loss = module.loss(batch, batch.totals)
    with live:
        loss.backward()
    assert type(loss) is torch.Tensor  # nothing of the plan is left in what a run computes
    assert expected.activations + expected.working == pytest.approx(live.peak, rel=0.1)


def test_sharding_divides_what_is_held_and_gathers_the_rest(tmp_path: Path) -> None:
    """Llama 8B: 29.92 GiB of float32 weights, as much of gradients, twice for AdamW, as much for a frozen copy."""
    plan = sized(LLAMA_8B, tmp_path, TypicalGroup(), PassConditions("auto", mixed=True), 4096)
    whole, eighth = plan.memory(4096, Spread()), plan.memory(4096, Spread(8, 8))
    assert [round(size / 2**30, 2) for size in whole[:4]] == [29.92, 29.92, 59.83, 29.92]
    assert eighth[:4] == pytest.approx([size / 8 for size in whole[:4]])
    assert eighth.activations < whole.activations  # weights are gathered in 16 bits, not cast and kept
    assert plan.memory(4096, Spread(8)).communication == plan.weights.trained  # DDP's buckets
