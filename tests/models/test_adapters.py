"""Inputs of adapters are cast once, by autocast: to the bit what PEFT's two casts give, in less memory.

Adapters are told by the name that PEFT writes behind the kind of a weight, whatever layers are called.
"""

from __future__ import annotations

import peft
import pytest
import torch
from torch import Tensor, nn

from align.models.adapters import cast_once
from align.models.backbone import Backbone, LoRA
from align.models.value_functions import AdapterValue
from tests.architectures.shrunk import Variant, random_model
from tests.tiny import tiny_model

IDS = torch.arange(1, 41).view(2, 20)


def adapted(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    model = peft.get_peft_model(tiny_model("llama", dtype), peft.LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return model


def step(model: nn.Module, *, autocast: bool) -> tuple[Tensor, list[Tensor], int]:
    """Loss, gradients, and the bytes that the backward pass needs beside the weights."""
    kept: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t),
    ):
        loss = model(input_ids=IDS, use_cache=False).logits.float().logsumexp(-1).mean()
    loss.backward()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return loss.detach(), gradients, sum(size for place, (size, _) in kept.items() if place not in weights)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_one_cast_gives_what_two_give(dtype: torch.dtype) -> None:
    twice, once = adapted(dtype), adapted(dtype)
    cast_once(once)
    loss, gradients, size = step(twice, autocast=True)
    found, found_gradients, found_size = step(once, autocast=True)
    assert torch.equal(found, loss)
    assert all(map(torch.equal, found_gradients, gradients))
    assert found_size < 0.95 * size if dtype == torch.bfloat16 else found_size <= size


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_without_autocast_nothing_changes(dtype: torch.dtype) -> None:
    plain, once = adapted(dtype), adapted(dtype)
    cast_once(once)
    loss, gradients, size = step(plain, autocast=False)
    found, found_gradients, found_size = step(once, autocast=False)
    assert torch.equal(found, loss)
    assert found_size == size
    assert all(map(torch.equal, found_gradients, gradients))


def test_a_compiled_adapter_is_one_graph() -> None:
    model = adapted(torch.bfloat16)
    cast_once(model)
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    inputs = torch.randn(3, layer.in_features, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        compiled = torch.compile(layer, backend="eager", fullgraph=True)(inputs)
        assert torch.equal(compiled, layer(inputs))


def test_the_critics_adapter_leaves_layers_of_its_name_alone() -> None:
    """RWKV's blocks have layers called `value`, as the critic's adapter is."""
    lora = LoRA(r=2, target_modules=["value"])
    policy = peft.get_peft_model(random_model(Variant("rwkv")), peft.LoraConfig(**lora.as_peft))
    own = {name for name, p in policy.named_parameters() if p.requires_grad}
    AdapterValue().build(policy, Backbone("rwkv", lora=lora), None)
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert trained == own | {name.replace(".default.", ".value.") for name in own}
