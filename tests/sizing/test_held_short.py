"""Plans count a frozen base as a run holds it: in bfloat16 where its checkpoint says so, under bf16-mixed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from align.cli.check import built
from align.models.backbone import Backbone, LoRA
from align.models.references import FrozenCopy
from align.modules.dpo import DPOModule
from align.sizing.groups import TypicalGroup
from align.sizing.memory import Batch, Spread, memory_of
from align.sizing.pass_cost import PassConditions
from align.sizing.sized import Sized
from benchmarks.gpu.shapes import LLAMA_8B
from tests.sizing.test_costs import sized
from tests.tiny import save_tiny

GROUPS = TypicalGroup()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "short", dtype=torch.bfloat16, tie_word_embeddings=False)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "32-true"])
@pytest.mark.parametrize("lora", [LoRA(r=2), None], ids=["lora", "copy"])
def test_bytes_are_those_that_a_run_holds(folder: Path, lora: LoRA | None, precision: str) -> None:
    def module() -> DPOModule:
        return DPOModule(Backbone(str(folder), lora=lora), reference=None if lora else FrozenCopy())

    conditions = PassConditions(mixed="mixed" in precision, short=precision == "bf16-mixed")
    plan = Sized.of(module(), GROUPS, conditions, 1024).weights
    run = module()
    built(run, Trainer(accelerator="cpu", precision="32-true" if precision == "16-mixed" else precision, logger=False))  # type: ignore[arg-type]
    copy = run.frozen_beside()
    held = [sum(p.nbytes for p in part.parameters()) if part else 0 for part in (run.model, copy)]
    assert [plan.held, plan.reference] == held


def test_adapters_on_an_8b_model(tmp_path: Path) -> None:
    """Of 8.03e9 weights the embedding's 525M and the norms' are held in float32, the rest in bfloat16: 15.9 GiB of 29.9."""
    lora = LoRA(r=16)
    shape = dataclasses.replace(LLAMA_8B, sizes={**LLAMA_8B.sizes, "dtype": "bfloat16"})
    plan = sized(shape, tmp_path, GROUPS, PassConditions(mixed=True, short=True), 4096, lora=lora)
    embedding, norms, others = 128256 * 4096, 65 * 4096, 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    base = 4 * (embedding + norms) + 2 * (others + embedding)
    assert plan.weights.held == base + plan.weights.trained
    block = 2 * (others // 32) + 2 * 2 * 4096 + plan.weights.block_trained // 2
    assert plan.weights.block_short == block
    eighth = memory_of(plan.weights, Batch(0, 0, 0), Spread(8, 8), states=2, mixed=True)
    assert eighth.weights == pytest.approx(plan.weights.held / 8)
    assert eighth.communication < 2 * block + plan.weights.outside + 2 * plan.weights.block_trained
