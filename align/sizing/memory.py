"""Memory of each GPU of a run: what is held all along, what a batch takes, what sharding and replicas add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from align.scoring.decoder import decoder
from align.sizing.meta_model import blocks_of
from align.sizing.method import SizableMethod


class Weights(NamedTuple):
    """Bytes of a run's models, and numbers of parameters."""

    parameters: int
    trained_parameters: int
    held: int
    """The policy's weights."""
    trained: int
    """Those of them that have gradients."""
    reference: int
    """A second model's."""
    block: int
    """Its largest block's."""
    block_short: int
    """Those of it where 16 bits of every weight are gathered."""
    block_trained: int
    """Those of them that have gradients."""
    outside: int
    """Weights outside the blocks: embeddings, last norm, head."""
    outside_trained: int
    unpacked: int
    """The largest matrix that is held in 4 bits, as it is while it is multiplied with."""
    scales: int = 0
    """Those of what is held in 4 bits, a part of `held`: no shards are made of them."""


SCALES = (8 / 64 + 32 / (64 * 256)) / 8
NF4 = 4 / 8 + SCALES
"""Bytes of a weight in 4 bits: 64 share a scale of 8, 256 scales one of 32 (QLoRA, section 3)."""


def weights_of(module: SizableMethod, *, quantised: bool = False) -> Weights:
    """Return those of a module that is built, with or without values."""
    model, reference = module.model, module.frozen_beside()
    sizes = _Sizes(module, quantised)
    own = list(model.parameters())
    blocks = blocks_of(decoder(model))
    largest = max((list(block.parameters()) for block in blocks), key=sizes.of)
    inside = {id(p) for block in blocks for p in block.parameters()}
    outside = [p for p in own if id(p) not in inside]
    kept = {id(p) for part in (model, reference) if part is not None for p in part.parameters()}
    own += [p for p in module.parameters() if id(p) not in kept]  # a critic, heads
    return Weights(
        parameters=sum(p.numel() for p in own),
        trained_parameters=sum(p.numel() for p in _trained(own)),
        held=sizes.of(own),
        trained=sizes.of(_trained(own)),
        reference=0 if reference is None else sizes.of(list(reference.parameters())),
        block=sizes.of(largest),
        block_short=sizes.of(largest, most=2),
        block_trained=sizes.of(_trained(largest)),
        outside=sizes.of(outside),
        outside_trained=sizes.of(_trained(outside)),
        unpacked=sizes.unpacked,
        scales=sizes.scales,
    )


class _Sizes:
    """Bytes of parameters, those of frozen linear layers in blocks as they are quantised."""

    def __init__(self, module: SizableMethod, quantised: bool) -> None:
        blocks = blocks_of(decoder(module.model))
        linear = [p for b in blocks for part in b.modules() if isinstance(part, nn.Linear) for p in (part.weight,)]
        packed = [p for p in linear if not p.requires_grad] if quantised else []
        self._packed = {id(p) for p in packed}
        self.scales = round(SCALES * sum(p.numel() for p in packed))
        self.unpacked = max((p.numel() * p.element_size() for p in packed), default=0)

    def of(self, parameters: Sequence[torch.Tensor], most: int = 8) -> int:
        """Return their bytes, of each number so many at most."""
        each = [NF4 if id(p) in self._packed else min(p.element_size(), most) for p in parameters]
        return round(sum(p.numel() * size for p, size in zip(parameters, each, strict=True)))


def _trained(parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [p for p in parameters if p.requires_grad]


@dataclass(frozen=True)
class Spread:
    """How a model lies on GPUs: whole on each (one device, DDP), or in shards (FSDP2)."""

    gpus: int = 1
    shards: int = 1
    """GPUs that hold the model together; FSDP2 repeats it on every machine unless it is told to shard over all."""

    @property
    def sharded(self) -> bool:
        """Tell whether no GPU holds the whole model."""
        return self.shards > 1

    def __str__(self) -> str:
        if not self.sharded:
            return "DDP" if self.gpus > 1 else "one GPU"
        return "FSDP2" if self.shards == self.gpus else f"FSDP2 in each {self.shards}"


class Memory(NamedTuple):
    """Bytes of one GPU at the peak of a step."""

    weights: float
    gradients: float
    optimiser: float
    reference: float
    communication: float
    """What FSDP2 has gathered, or DDP's buckets."""
    activations: float
    working: float
    """The larger of the logits and what a block needs while it is computed."""

    @property
    def total(self) -> float:
        """Return the sum."""
        return sum(self)


class Batch(NamedTuple):
    """Bytes that a batch takes."""

    activations: float
    casts: float
    """The part of them that are weights in 16 bits."""
    working: float


def memory_of(
    weights: Weights, batch: Batch, spread: Spread, *, states: float, mixed: bool, prefetch: int = 1
) -> Memory:
    """Return the memory of one GPU.

    Args:
        weights: The run's.
        batch: What its largest batch takes.
        spread: How the model lies on GPUs.
        states: Bytes of optimiser state for each byte of trained weights.
        mixed: Whether blocks are gathered in 16 bits.
        prefetch: Blocks that are gathered beside the one that runs; one backward in any case.
    """
    shares = spread.shards
    cast = batch.casts if spread.sharded and mixed else 0.0  # gathered in 16 bits and given back, not cast and kept
    return Memory(
        (weights.held - weights.scales) / shares + weights.scales,
        weights.trained / shares,
        states * weights.trained / shares,
        weights.reference / shares,
        _communication(weights, spread, mixed=mixed, beside=max(prefetch, 1)),
        batch.activations - cast,
        batch.working,
    )


def _communication(weights: Weights, spread: Spread, *, mixed: bool, beside: int) -> float:
    """Return what gathering or reducing takes.

    FSDP2 holds a gathered block and those beside it, the gradients of one with the float32 buffer that sums them, and
    all that stands outside the blocks with its gradients; of a second model the same without gradients.
    """
    if not spread.sharded:
        return weights.trained if spread.gpus > 1 else 0.0
    gathered = (1 + beside) * (weights.block_short if mixed else weights.block) + weights.outside
    gradients = ((0.5 if mixed else 1.0) + 1) * weights.block_trained + weights.outside_trained
    return gathered + gradients + (gathered if weights.reference else 0.0)
