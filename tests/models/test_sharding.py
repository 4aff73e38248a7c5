"""What FSDP2 gathers under mixed precision, in a group of one process."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from align.models.sharding import shard
from align.scoring.decoder import decoder, run_decoder
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
