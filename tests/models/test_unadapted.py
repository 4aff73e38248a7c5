"""`all-linear` puts adapters on every layer they work on and on no other: merged, a model says what it said with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.models.adapted import add_trained, load_bare
from align.models.backbone import Backbone, LoRA
from align.models.loading import load_policy
from align.models.unadapted import unadapted
from align.models.value_functions import AdapterValue
from tests.architectures.shrunk import VOCAB, Variant, random_model

IDS = torch.tensor([[3, 40, 41, 42, 43, 7]])
LEFT_OUT = {
    "llama4_text": {"router"},
    "phimoe": {"router"},
    "mamba": {"x_proj", "dt_proj", "out_proj"},
    "jamba": {"dt_proj"},
    "longcat_flash": {"classifier", "gate_proj", "up_proj", "down_proj"},
    "glm_moe_dsa": {"wq_b", "wk", "weights_proj", "gate_proj", "up_proj", "down_proj"},
    "deepseek_v4": {"o_a_proj", "weights_proj"},
    "deepseek_v3": {"gate_proj", "up_proj", "down_proj"},
    "falcon": set[str](),
}
"""Routers that return choices; projections of Mamba blocks read past an adapter, and a router; an indexer; a layer of
groups; what PEFT takes for experts; and Falcon, whose own linear layers are linear."""


class Tokens:
    def __len__(self) -> int:
        return VOCAB


def targets(model: Any) -> set[str]:
    return {name.split(".lora_A.")[0].rpartition(".")[2] for name, _ in model.named_parameters() if ".lora_A." in name}


@torch.no_grad()
def moved(model: Any) -> Any:
    """Give every adapter an update that shows."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("name", LEFT_OUT)
@torch.no_grad()
def test_adapters_sit_where_they_work(name: str, tmp_path: Path) -> None:
    base = random_model(Variant(name))
    base.save_pretrained(tmp_path)
    linear = {n.rpartition(".")[2] for n, part in base.named_modules() if isinstance(part, torch.nn.Linear)}
    model: Any = moved(load_policy(Backbone(str(tmp_path), lora=LoRA(r=4)), Tokens()))
    assert linear - targets(model) - {"lm_head"} == LEFT_OUT[name]
    plain, with_them = (one(input_ids=IDS, use_cache=False).logits for one in (base, model))
    merged = model.merge_and_unload()(input_ids=IDS, use_cache=False).logits
    assert (merged - with_them).norm() < 1e-3 * with_them.norm()
    assert (plain - with_them).norm() > 1e-2 * plain.norm()


@pytest.mark.parametrize("blocks", [None, 2])
def test_adapters_of_several_names_leave_the_same_out(blocks: int | None, tmp_path: Path) -> None:
    random_model(Variant("phimoe")).save_pretrained(tmp_path)
    bare = load_bare(Backbone(str(tmp_path)), Tokens())
    model = add_trained(bare, ["good", "bad"], LoRA(r=4), blocks=blocks)
    assert targets(model) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert torch.isfinite(model(input_ids=IDS, use_cache=False).logits).all()


@pytest.mark.parametrize("name", ["phimoe", "mamba"])
def test_the_critics_adapter_sits_where_the_policys_does(name: str, tmp_path: Path) -> None:
    """PPO puts it on a model that has adapters already."""
    random_model(Variant(name)).save_pretrained(tmp_path)
    backbone = Backbone(str(tmp_path), lora=LoRA(r=4))
    model = load_policy(backbone, Tokens())
    own = {n for n, _ in model.named_parameters() if ".lora_" in n}
    AdapterValue().build(model, backbone, Tokens())
    added = {n for n, _ in model.named_parameters() if ".lora_" in n} - own
    assert added == {n.replace(".default.", ".value.") for n in own}


def test_layers_that_are_named_and_would_never_move_are_told() -> None:
    """Layers of an indexer, which gives places; the other layer of that name in the block takes one."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(Variant("deepseek_v32").config())
    with pytest.warns(
        UserWarning, match=r"4 layers that backbone\.lora\.target_modules names get none \(wq_b; the first"
    ):
        assert {n.rpartition(".")[2] for n in unadapted(model, ["wq_b", "q_b_proj"])} == {"wq_b"}


@pytest.mark.parametrize("name", ["bamba", "granitemoehybrid", "zamba2", "nemotron_h"])
def test_what_fused_kernels_read_past_an_adapter_is_left_out_on_every_device(name: str) -> None:
    """Only they read `out_proj` so, where there is a GPU; the code for CPUs calls it."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(Variant(name).config())
    assert {layer.rpartition(".")[2] for layer in unadapted(model, "all-linear")} >= {"out_proj"}
