"""What FSDP2 gathers under mixed precision, in a group of one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup
from torch.distributed.tensor import DTensor

from align.errors import ConfigError
from align.models.sharding import shard
from align.scoring.decoder import decoder, run_decoder
from align.training.sharded_strategy import ShardedStrategy
from tests.tiny import tiny_model

IDS = torch.arange(1, 41).view(2, 20)


def step(model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    with torch.autocast("cpu", torch.bfloat16):
        states = run_decoder(model, input_ids=IDS, use_cache=False).last_hidden_state
    loss = states.float().square().mean()
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), {name: g.full_tensor() if isinstance(g, DTensor) else g for name, g in gradients.items()}


def test_blocks_are_gathered_in_bfloat16_and_summed_in_float32(mesh: DeviceMesh) -> None:
    """The loss is to the bit that of autocast: weights of norms are 1 here, and nothing else is rounded anew."""
    plain, sharded = tiny_model("llama"), tiny_model("llama")
    shard(sharded, mesh, "bf16-mixed")
    seen: dict[str, set[torch.dtype]] = {"weights": set(), "inputs": set(), "embeddings": set()}
    body = decoder(sharded)

    def look(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen["weights"] |= {p.dtype for p in block.parameters()}
        seen["inputs"].add(inputs[0].dtype)
        seen["embeddings"].add(body.embed_tokens.weight.dtype)

    for block in body.layers:
        block.register_forward_pre_hook(look)
    loss, gradients = step(plain)
    found, found_gradients = step(sharded)
    assert seen == {"weights": {torch.bfloat16}, "inputs": {torch.float32}, "embeddings": {torch.float32}}
    assert torch.equal(found, loss)
    assert {p.dtype for p in sharded.parameters()} == {g.dtype for g in found_gradients.values()} == {torch.float32}
    for name, gradient in gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-2, atol=1e-2 * gradient.abs().max().item())


def test_full_precision_is_gathered_in_full(mesh: DeviceMesh) -> None:
    model = tiny_model("llama")
    shard(model, mesh)
    seen = set()
    decoder(model).layers[0].register_forward_pre_hook(
        lambda block, _: seen.update(p.dtype for p in block.parameters())
    )
    step(model)
    assert seen == {torch.float32}


@pytest.mark.parametrize(("prefetch", "runs"), [(0, 3), (1, 2), (3, 0)])
def test_blocks_are_asked_for_before_they_run(
    prefetch: int, runs: int, mesh: DeviceMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of four blocks is asked for when so many have begun."""
    model = tiny_model("llama", num_hidden_layers=4)
    shard(model, mesh, prefetch=prefetch)
    seen: list[str] = []
    unshard = FSDPParamGroup.unshard

    def noted(group: Any, async_op: bool = False) -> None:
        seen.append(f"asked for {group._module_fqn}")
        unshard(group, async_op)

    monkeypatch.setattr(FSDPParamGroup, "unshard", noted)
    for block in decoder(model).layers:
        block.register_forward_pre_hook(lambda *_: seen.append("run"))
    step(model)
    assert seen[: seen.index("asked for model.layers.3")].count("run") == runs


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"prefetch": -1}, "prefetch must not be negative, got -1"),
        ({"tensor_parallel_size": 2}, "no tensor is multiplied in parts"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ShardedStrategy(**settings)


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_shards_that_make_no_copies(shards: int) -> None:
    strategy = ShardedStrategy(shards)
    strategy.parallel_devices = [torch.device("cpu")] * 4
    with pytest.raises(ConfigError, match=f"shards {shards}: expected at least 2 that divide the 4 processes"):
        strategy.setup_environment()
