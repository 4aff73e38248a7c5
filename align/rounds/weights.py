"""The weights a round is sampled from, by their hash; the weights a run starts from, kept to go back to."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from align.errors import StoreError
from align.files import atomic_file
from align.models.references import MovingReference, PreviousRound, Reference, ReferenceMixture


def policy_hash(module: nn.Module) -> str:
    """Return a hash of the trained parameters, gathered where they are sharded; every process must call."""
    digest = hashlib.sha256()
    for name, values in trained(module).items():
        digest.update(name.encode())
        digest.update(values.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def trained(module: nn.Module) -> dict[str, Tensor]:
    """Return whole copies of the trained parameters on the CPU."""
    return {name: _whole(p).detach().cpu() for name, p in module.named_parameters() if p.requires_grad}


def save_start(module: nn.Module, path: Path) -> None:
    """Keep the weights a run starts from, unless they are kept already."""
    if not path.exists():
        with atomic_file(path) as part:
            save_file({name: values.clone() for name, values in trained(module).items()}, part)


def follows_rounds(module: nn.Module) -> bool:
    """Tell whether a module's reference, or one of several, is the policy of the previous round."""
    return any(isinstance(kind, PreviousRound) for kind in _anchors(module))


def follows_steps(module: nn.Module) -> bool:
    """Tell whether a module's reference, or one of several, follows the policy step by step."""
    return any(isinstance(kind, MovingReference) for kind in _anchors(module))


def _anchors(module: Any) -> list[Reference | None]:
    reference = getattr(module, "reference", None)
    own = reference.anchors if isinstance(reference, ReferenceMixture) else []
    return [reference, *(anchor.reference for anchor in own)]


def follow_start(module: Any, path: Path) -> None:
    """Give references of kind PreviousRound the weights that `save_start` kept. Raises StoreError without them."""
    if not path.exists():
        raise StoreError(f"{path} is missing: the weights its round began with, which are the reference: put it back")
    kept = load_file(path)
    inner = {name.removeprefix("model."): values for name, values in kept.items() if name.startswith("model.")}
    for kind in _anchors(module):
        if isinstance(kind, PreviousRound):
            kind.follow(inner)


@torch.no_grad()
def go_back(module: nn.Module, optimizers: list[torch.optim.Optimizer], path: Path) -> None:
    """Set the trained parameters to what `save_start` kept, and forget the optimiser's moments."""
    kept = load_file(path)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(kept[name])
    for optimizer in optimizers:
        optimizer.state.clear()


def _whole(parameter: Tensor) -> Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
