"""This process's parts of whole tensors: cut out of the weights of a model that is sharded, and given to tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from align.models.file_weights import FileWeight


class WeightPlace(NamedTuple):
    """A place in a model and the whole weight that belongs there."""

    owner: nn.Module
    name: str
    values: nn.Parameter


def taken_out(model: nn.Module) -> list[WeightPlace]:
    """Put weights without memory in place of a model's own, tied ones at every place, and return what was there.

    Those that are sharded already, of a model that lies in this one, stay.
    """
    empty: dict[nn.Parameter, nn.Parameter] = {}
    taken = []
    for owner in model.modules():
        for name, own in owner._parameters.items():
            if own is not None and not isinstance(own, DTensor):
                taken.append(WeightPlace(owner, name, own))
                bare = torch.empty(own.shape, dtype=own.dtype, device="meta")
                empty.setdefault(own, nn.Parameter(bare, requires_grad=own.requires_grad))
    for place in taken:
        place.owner._parameters[place.name] = empty[place.values]
    return taken


@torch.no_grad()
def put_back(weights: list[WeightPlace], mesh: DeviceMesh) -> None:
    """Give every sharded weight this process's part of its values."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    while weights:
        owner, name, values = weights.pop()
        if values not in made:
            empty: Any = owner._parameters[name]
            local = own_part(values, empty).to(mesh.device_type)
            made[values] = nn.Parameter(
                DTensor.from_local(
                    local, mesh, empty.placements, run_check=False, shape=empty.shape, stride=empty.stride()
                ),
                requires_grad=values.requires_grad,
            )
        owner._parameters[name] = made[values]


def own_part(values: Tensor, sharded: DTensor) -> Tensor:
    """Return a copy of the part of a whole tensor that is this process's, where it has been sharded like another."""
    shape, start = compute_local_shape_and_global_offset(sharded.shape, sharded.device_mesh, sharded.placements)
    where = [slice(begin, begin + length) for begin, length in zip(start, shape, strict=True)]
    return values.cut(where) if isinstance(values, FileWeight) else values.detach()[tuple(where)].clone()


@torch.no_grad()
def give(own: Tensor, values: Tensor) -> None:
    """Copy whole values into a tensor, this process's part of them where it is sharded."""
    if isinstance(own, DTensor):
        own.to_local().copy_(own_part(values, own))
    else:
        own.copy_(values)


def give_all(own: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
    """Copy this process's part of whole tensors into those of a state."""
    for name, values in own.items():
        if isinstance(values, Mapping):
            give_all(values, whole[name])
        elif isinstance(values, Tensor):
            give(values, whole[name])
