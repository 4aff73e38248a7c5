"""Several active adapters written as one: exact, since low-rank updates add up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from jaxtyping import Float
from peft.tuners.lora.layer import ParamWrapper
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from align.errors import ConfigError


def save_combined(model: Any, folder: Path, weights: Mapping[str, Tensor] | None) -> None:
    """Write the sum of the active adapters as one PEFT adapter folder; its rank is the largest sum of theirs.

    PEFT keeps the ranks of experts, of one parameter, within each expert: first in rows, last in columns.
    `weights` is the gathered state of a sharded model. Raises ConfigError for adapters that are not plain LoRA.
    """
    state = dict(weights) if weights is not None else model.state_dict()
    active = list(model.active_adapters)
    configs = [model.peft_config[name] for name in active]
    if any(c.use_dora or c.bias != "none" or c.modules_to_save or c.peft_type != "LORA" for c in configs):
        raise ConfigError(f"adapters {active} cannot be written as one: expected plain LoRA; export with merge instead")
    updates, modules, parameters = dict[str, tuple[Tensor, Tensor]](), list[str](), list[str]()
    for path, layer in model.named_modules():
        if any(name in getattr(layer, "lora_embedding_A", {}) for name in active):
            raise ConfigError(f"adapters {active} cannot be written as one: {path} is an embedding; merge instead")
        present = [name for name in active if name in getattr(layer, "lora_A", {})]
        if not present:
            continue
        updates[path] = _update(layer, path, present, state)
        plain = re.sub(r"(\.base_layer)+$", "", path.removeprefix("base_model.model."))
        if isinstance(layer, ParamWrapper):
            parameters.append(f"{plain}.{layer.parameter_name}")
        else:
            modules.append(plain)
    rank = max(down.shape[1] for down, _ in updates.values())
    tensors = dict[str, Tensor]()
    for path, (down, up) in updates.items():
        tensors[f"{path}.lora_A.weight"] = _padded(down, rank).flatten(0, 1)
        tensors[f"{path}.lora_B.weight"] = _padded(up, rank).flatten(1, 2)
    first = configs[-1]
    config = peft.LoraConfig(
        task_type=first.task_type,
        r=rank,
        lora_alpha=rank,
        target_modules=modules,
        target_parameters=parameters or None,
        fan_in_fan_out=first.fan_in_fan_out,
        base_model_name_or_path=first.base_model_name_or_path or model.get_base_model().name_or_path,
        inference_mode=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def _update(
    layer: Any, path: str, present: Sequence[str], state: Mapping[str, Tensor]
) -> tuple[Float[Tensor, "expert rank input"], Float[Tensor, "output rank expert"]]:
    """Return both factors of the sum of a layer's updates, by expert (one for a plain layer), scaled."""
    experts = layer.num_experts if isinstance(layer, ParamWrapper) else 1
    downs = [state[f"{path}.lora_A.{name}.weight"].float() for name in present]
    ups = [layer.scaling[name] * state[f"{path}.lora_B.{name}.weight"].float() for name in present]
    down = torch.cat([one.reshape(experts, -1, one.shape[1]) for one in downs], 1)
    return down, torch.cat([one.reshape(one.shape[0], -1, experts) for one in ups], 1)


def _padded(weight: Float[Tensor, "a rank b"], rank: int) -> Float[Tensor, "a whole_rank b"]:
    return functional.pad(weight, (0, 0, 0, rank - weight.shape[1])).cpu()
