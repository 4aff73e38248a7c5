"""The weights a round is sampled from, by their hash; the weights a run starts from, kept to go back to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from align.distributed import on_first, rank
from align.errors import ConfigError, StoreError
from align.files import atomic_file
from align.models.own_parts import give
from align.models.references import FollowingReference, PreviousRound, Reference, ReferenceMixture
from align.sampling.trained_module import ReferencedPolicy
from align.transfer import raw_bytes


def policy_hash(module: nn.Module) -> str:
    """Return a hash of the trained parameters, gathered where they are sharded; every process must call."""
    digest = hashlib.sha256()
    for name, values in _trained(module):
        digest.update(name.encode())
        digest.update(raw_bytes(values))
    return digest.hexdigest()[:16]


def reference_hash(module: ReferencedPolicy) -> str:
    """Return a hash of what a reference is, and of the weights of one that follows the policy; every process calls."""
    digest = hashlib.sha256(repr(module.reference).encode())
    for values in module.moving_parameters():
        digest.update(raw_bytes(_whole(values)))
    return digest.hexdigest()[:16]


def _trained(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the trained parameters whole on the CPU, one after the other, so that a process need not hold them all."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            yield name, _whole(parameter).detach().cpu()


def save_start(module: nn.Module, path: Path) -> None:
    """Keep the weights a run starts from, unless they are kept already; every process calls."""
    if not on_first(path.exists):
        gathered = _trained(module)
        kept = {name: values.clone() for name, values in gathered if rank() == 0}
        on_first(lambda: _write(kept, path))


def _write(kept: dict[str, Tensor], path: Path) -> None:
    with atomic_file(path) as part:
        save_file(kept, part)


def follows_rounds(module: nn.Module) -> bool:
    """Tell whether a module's reference, or one of several, is the policy of the previous round."""
    return any(isinstance(kind, PreviousRound) for kind in _anchors(module))


def refuse_following(module: nn.Module) -> None:
    """Raise ConfigError for a reference that follows the policy, where every round restarts from one policy."""
    if follows_rounds(module):
        raise ConfigError("model.reference PreviousRound is the start where rounds restart: leave one of them out")
    if following := [kind for kind in _anchors(module) if isinstance(kind, FollowingReference)]:
        told = type(following[0]).__name__
        raise ConfigError(
            f"model.reference {told} would go on from the round before where rounds restart: leave one of them out"
        )


def refuse_ahead(module: nn.Module) -> None:
    """Raise ConfigError for a reference that is the policy which drew, where rounds are drawn by an earlier one."""
    if follows_rounds(module):
        raise ConfigError(
            "model.reference PreviousRound is the policy that draws a round, ahead 1 draws it by the one before: leave "
            "one of them out"
        )


def _anchors(module: nn.Module) -> list[Reference | None]:
    reference = getattr(module, "reference", None)
    own = reference.anchors if isinstance(reference, ReferenceMixture) else []
    return [reference, *(anchor.reference for anchor in own)]


def follow_start(module: nn.Module, path: Path) -> None:
    """Give references of kind PreviousRound the weights that `save_start` kept. Raises StoreError without them."""
    if not path.exists():
        raise StoreError(f"{path} is missing: the weights its round began with, which are the reference: put it back")
    kept = load_file(path)
    inner = {name.removeprefix("model."): values for name, values in kept.items() if name.startswith("model.")}
    for kind in _anchors(module):
        if isinstance(kind, PreviousRound):
            kind.follow(inner)


def go_back(module: nn.Module, optimizers: list[torch.optim.Optimizer], path: Path) -> None:
    """Set the trained parameters to what `save_start` kept, and forget the optimiser's moments."""
    kept = load_file(path)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            give(parameter, kept[name])
    for optimizer in optimizers:
        optimizer.state.clear()


def _whole(parameter: Tensor) -> Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
