"""Several active adapters written as one: exact, since low-rank updates add up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import save_file
from torch import Tensor

from align.errors import ConfigError


def save_combined(model: Any, folder: Path, weights: Mapping[str, Tensor] | None) -> None:
    """Write the sum of the active adapters as one PEFT adapter folder; its rank is the sum of theirs.

    `weights` is the gathered state of a sharded model. Raises ConfigError for adapters that are not plain LoRA.
    """
    state = dict(weights) if weights is not None else model.state_dict()
    active = list(model.active_adapters)
    configs = [model.peft_config[name] for name in active]
    if any(c.use_dora or c.bias != "none" or c.modules_to_save or c.peft_type != "LORA" for c in configs):
        raise ConfigError(f"adapters {active} cannot be written as one: expected plain LoRA; export with merge instead")
    rank = sum(config.r for config in configs)
    tensors, targets = {}, []
    for path, layer in model.named_modules():
        present = [name for name in active if name in getattr(layer, "lora_A", {})]
        if not present:
            continue
        down = torch.cat([state[f"{path}.lora_A.{name}.weight"].float() for name in present])
        up = torch.cat([layer.scaling[n] * state[f"{path}.lora_B.{n}.weight"].float() for n in present], 1)
        tensors[f"{path}.lora_A.weight"] = _padded(down, 0, rank)
        tensors[f"{path}.lora_B.weight"] = _padded(up, 1, rank)
        targets.append(path.removeprefix("base_model.model."))
    first = configs[-1]
    config = peft.LoraConfig(
        task_type=first.task_type,
        r=rank,
        lora_alpha=rank,
        target_modules=targets,
        fan_in_fan_out=first.fan_in_fan_out,
        base_model_name_or_path=first.base_model_name_or_path or model.get_base_model().name_or_path,
        inference_mode=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def _padded(weight: Tensor, side: int, rank: int) -> Tensor:
    shape = list(weight.shape)
    shape[side] = rank - shape[side]
    return torch.cat([weight, weight.new_zeros(shape)], side).cpu().contiguous()
