"""Names of the weights in an adapter file: such that PEFT reads each as the weight that was written."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import peft
import torch
from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming

from align.errors import ModelError
from align.models.adapter_folder import ADAPTER_WEIGHTS
from align.scoring.decoder import unwrapped

BASE = "base_model.model."
"""What PEFT writes in front of a model's own names."""


def keep_names(model: Any, folder: Path) -> None:
    """Write those weights of an adapter folder under older names that PEFT would read as others.

    PEFT renames what it reads as transformers renames checkpoints of the model's type, and takes some names of now for
    older ones: Laguna's `shared_experts.` for `shared_expert.`. It would then leave them out, with a warning.

    Raises ModelError for a weight that PEFT reads back under no name.
    """
    file = folder / ADAPTER_WEIGHTS
    with safe_open(file, "pt") as content:
        shapes = {name: content.get_slice(name).get_shape() for name in content.keys()}  # noqa: SIM118
    config = peft.PeftConfig.from_pretrained(str(folder))

    def read(names: Collection[str], like: str | None = None) -> set[str]:
        state = {name: torch.empty(shapes[like or name], device="meta") for name in names}
        return set(convert_peft_adapter_state_dict_for_transformers(model, config, state))

    lost = sorted(shapes.keys() - read(shapes))
    if not lost:
        return
    older = {name: next((n for n in _older(model, name) if read([n], name) == {name}), None) for name in lost}
    unread = [name for name, found in older.items() if found is None]
    if unread:
        raise ModelError(
            f"adapter {folder}: PEFT reads {unread[0]} under another name ({len(unread)} weights): export with merge"
        )
    tensors = {older.get(name) or name: values for name, values in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


def _older(model: Any, name: str) -> Iterable[str]:
    """Yield the names that a weight had in older checkpoints."""
    for renaming in get_model_conversion_mapping(unwrapped(model)):
        if isinstance(renaming, WeightRenaming):
            yield BASE + renaming.reverse_transform().rename_source_key(name.removeprefix(BASE))[0]
