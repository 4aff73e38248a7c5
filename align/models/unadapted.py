"""Linear layers that no adapter can sit on: `all-linear` leaves them out and says so."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

import peft
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import Tensor, nn

from align.models.beside_text import parts_beside_text
from align.scoring.decoder import unwrapped

READ_PAST = re.compile(r"self\.(\w+)\.weight\b(?!\[|\.(?:shape|size|device|dtype)\b)")
"""A layer whose weight its owner's code reads, where it would be called."""
SHOWN = 4


def unadapted(model: Any, target_modules: str | list[str]) -> list[str]:
    """Return the names of linear layers that a LoRA's targets name and that have to be left out.

    Of `all-linear` these are layers whose weight is read past an adapter, in all code or in that of fused kernels
    (projections of Mamba blocks, the router of LongCat), so that an adapter there would never move; all of an indexer
    (DeepSeek V3.2), which gives places and no gradient; and layers of a model's own that give something else than
    the product of a matrix, such as the routers of Llama 4 and Phi-3.5-MoE, whose outputs are scores and choices. Of
    other targets the same, with a warning. Of all, layers of the parts for pictures and sounds, whose adapters would
    never move. Names are those of the model inside, as it is without the adapters it may have.
    """
    beside, parts = tuple(f"{part}." for part in parts_beside_text(model)), _bare_parts(model)
    linear = [name for name, layer in parts.items() if isinstance(layer, nn.Linear)]
    unseen = [name for name in linear if beside and name.startswith(beside) and is_named(target_modules, name)]
    found = [name for name in _unadapted(parts) if name not in unseen and is_named(target_modules, name)]
    if target_modules != "all-linear":
        if found:
            rank_zero_warn(
                f"adapters: {len(found)} layers that backbone.lora.target_modules names get none ({_kinds(found)}; the "
                f"first is {found[0]}): it would never move, or the layer is no plain matrix"
            )
        return unseen + found
    if found:
        rank_zero_info(f"adapters: {len(found)} layers are left out of all-linear, which take none ({_kinds(found)})")
    taken = [name for name in _taken_for_experts(unwrapped(model), linear) if name not in unseen]
    if taken:
        rank_zero_warn(
            f"adapters: {len(taken)} linear layers beside the experts get none: PEFT takes their names "
            f"({_kinds(taken)}) for those of the experts; backbone.lora.target_parameters reaches them "
            f"({taken[0].partition('.layers.')[2].partition('.')[2] or taken[0]}.weight)"
        )
    return unseen + found + taken


def is_named(pattern: str | list[str], name: str) -> bool:
    """Tell whether a LoRA's targets, names or a pattern, name a linear layer."""
    if isinstance(pattern, list):
        return any(name == p or name.endswith(f".{p}") for p in pattern)
    return pattern == "all-linear" or re.fullmatch(pattern, name) is not None


def _kinds(names: list[str]) -> str:
    kinds = sorted({name.rpartition(".")[2] for name in names})
    return ", ".join(kinds[:SHOWN]) + (" and others" if len(kinds) > SHOWN else "")


def _bare_parts(model: Any) -> dict[str, nn.Module]:
    """Return the parts of a model by name, as they are without the adapters it may have."""
    found: dict[str, nn.Module] = {}
    for name, part in unwrapped(model).named_modules():
        if ".lora_" not in name:
            bare = part.get_base_layer() if isinstance(part, BaseTunerLayer) else part
            found[name.replace(".base_layer", "")] = bare
    return found


def _taken_for_experts(model: Any, linear: list[str]) -> list[str]:
    """Return the linear layers that PEFT gives no adapter, since experts had layers of that name in transformers 4.

    It then puts one on the experts' parameters in the place of every layer of the name, as on DeepSeek's dense blocks
    and shared experts.
    """
    taken = {kind: _is_taken(model, kind) for kind in {name.rpartition(".")[2] for name in linear}}
    return [name for name in linear if taken[name.rpartition(".")[2]]]


def _is_taken(model: Any, kind: str) -> bool:
    settings = peft.LoraConfig(target_modules=[kind])
    try:
        convert_peft_config_for_transformers(settings, model, None)
    except ValueError:  # one of two that are fused
        return True
    return kind not in (settings.target_modules or [])


def _unadapted(parts: dict[str, nn.Module]) -> Iterator[str]:
    past = {kind: _read_past(kind) for kind in {type(part) for part in parts.values()}}
    choosing = tuple(f"{name}." for name, part in parts.items() if type(part).__name__.endswith("Indexer"))
    for name, layer in parts.items():
        owner, _, own = name.rpartition(".")
        if isinstance(layer, nn.Linear) and (
            own in past[type(parts[owner])] or name.startswith(choosing) or not _is_linear(layer)
        ):
            yield name


def _read_past(kind: type[nn.Module]) -> set[str]:
    """Return the layers of a module of transformers whose weights it reads itself, in code of some device or other."""
    if (
        not kind.__module__.startswith("transformers")
        or getattr(sys.modules[kind.__module__], kind.__name__, 0) is not kind
    ):
        return set()  # not theirs, or made of theirs, as classifiers are, and without a text
    return set(READ_PAST.findall(inspect.getsource(kind)))


@torch.no_grad()
def _is_linear(layer: nn.Linear) -> bool:
    """Tell whether a layer gives the product with its weight, by a call where a model has code of its own for it."""
    if type(layer).forward is nn.Linear.forward or not type(layer).__module__.startswith("transformers.models."):
        return True
    given = torch.ones(1, layer.in_features, dtype=layer.weight.dtype, device=layer.weight.device)
    try:
        made = layer(given)
    except (RuntimeError, ValueError, TypeError, IndexError):  # it takes something else, as grouped layers do
        return False
    return isinstance(made, Tensor) and made.shape == (1, layer.out_features)
