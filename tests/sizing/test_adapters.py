"""What runs are said to need that begin with adapters: of a first stage, or of a folder that is trained on."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from align.cli.main import main
from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from align.modules.rahf import RAHFDualModule
from align.scoring.layouts import count_positions
from align.sizing.fake_tensors import LiveBytes, storages
from align.sizing.groups import TypicalGroup
from align.sizing.pass_cost import PassConditions
from align.sizing.sized import Sized
from benchmarks.gpu.shapes import CHECKED

DEEP = dataclasses.replace(CHECKED, sizes={**CHECKED.sizes, "num_hidden_layers": 8, "vocab_size": 4096})
GROUPS = TypicalGroup(prompt=60, response=30)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and adapters `good` and `bad` on it, written by PEFT."""
    folder = tmp_path_factory.mktemp("stage")
    base = DEEP.folder(folder / "base")
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)).save_pretrained(base)
    for name in ("good", "bad"):
        config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False)
        peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder / name)
    return folder


@pytest.mark.parametrize(
    ("make", "start", "mixed", "again"),
    [
        pytest.param(RAHFDualModule, "base", True, False, marks=pytest.mark.slow),
        pytest.param(RAHFDualModule, "base", False, True, marks=pytest.mark.slow),
        (DPOModule, "good", False, False),
    ],
)
@pytest.mark.filterwarnings("ignore:layer:UserWarning", "ignore:model.stage1:UserWarning")
def test_storages_of_a_real_step(make: Callable[..., Any], start: str, mixed: bool, again: bool, stage: Path) -> None:
    """A real forward and backward pass, its storages counted as they come and go."""
    stage1 = {"stage1": str(stage)} if make is RAHFDualModule else {}
    module = make(Backbone(str(stage / start), check=False, gradient_checkpointing=again), **stage1)
    plan = Sized.of(module, GROUPS, PassConditions("auto", mixed, gpu=False), 1200)
    batch = GROUPS.batch(10)
    expected = plan.batch(count_positions(batch, plan.cost.layout)[0])
    module.build_model()
    assert plan.weights.parameters == sum(p.numel() for p in module.model.parameters())
    for parameter in module.model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    live = LiveBytes(storages(module))
    with live, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        loss = module.loss(batch, batch.totals)
    with live:
        loss.backward()
    assert expected.activations + expected.working == pytest.approx(live.peak, rel=0.1)


def test_a_second_stage_whose_first_is_not_there_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """Rank 8 twice on all linear layers of 8 blocks, and below layer 5 once on queries and values."""
    given = ["check", "-c", "rahf_dual", "--model.stage1", str(tmp_path / "later")]
    assert main([*given, "--model.backbone.path", DEEP.folder(tmp_path / "base")]) == 0
    query, key, wide = 512 + 512, 512 + 128, 512 + 1024
    stage, fresh = 2 * 8 * 8 * (2 * query + 2 * key + 3 * wide), 5 * 8 * (query + key)
    base = 2 * 4096 * 512 + 512 + 8 * (2 * 512 * 512 + 2 * 512 * 128 + 3 * 512 * 1024 + 2 * 512)
    told = f"{base + stage + fresh:,} parameters, {fresh:,} of them trained"
    assert told in capsys.readouterr().out
    assert any("later/good is not there: counted with rank 8" in str(w.message) for w in recwarn)


def test_an_adapter_by_its_configuration(stage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither its weights nor its base's are there; the start of PiSSA would be computed from the latter."""
    shutil.copytree(stage / "base", tmp_path / "base", ignore=shutil.ignore_patterns("*.safetensors"))
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        target_modules=["q_proj"],
        init_lora_weights="pissa",
        base_model_name_or_path=str(tmp_path / "base"),
    )
    config.save_pretrained(tmp_path / "adapter")
    assert main(["check", "-c", "dpo", "--model.backbone.path", str(tmp_path / "adapter")]) == 0
    assert "32,768 of them trained" in capsys.readouterr().out  # 8 layers of 4 x (512 + 512)


@pytest.mark.bad_input
def test_an_adapter_on_random_weights(stage: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", "PreferenceFileDataModule", "--data.path", str(pairs_file)]
    start = ["--model.backbone.path", str(stage / "good"), "--model.backbone.random_init", "true"]
    assert main(["check", "-c", "dpo", "-c", "configs/trainer/cpu.yaml", *data, *start]) == 2
    assert "is an adapter of its base's weights, which backbone.random_init leaves out" in capsys.readouterr().err
