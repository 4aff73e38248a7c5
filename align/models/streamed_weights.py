"""Weights written part by part: nobody holds a whole model that is sharded, or a second one in another dtype."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from lightning.pytorch.utilities import rank_zero_info
from peft.tuners.tuners_utils import BaseTuner
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import PrefixChange, revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from align.distributed import rank
from align.models.file_weights import FileWeight
from align.strict_json import json_text

PART = 5 * 10**9
"""Bytes of a file: what the first process holds of a model, and the block it has just got."""
INDEX = "model.safetensors.index.json"
CONVERSIONS = "_weight_conversions"
"""Where transformers keeps how a model's weights were made of those in its folder."""
State = dict[str, Tensor]


def is_sharded(model: nn.Module) -> bool:
    """Tell whether processes hold parts of a model's weights."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def keep_conversions(inner: Any) -> None:
    """Let a model that begins at random, and is about to be sharded, keep how its weights are named in a folder.

    transformers finds that by the name of the class, to which FSDP2 gives another.
    """
    if getattr(inner, CONVERSIONS, None) is None:
        found = get_model_conversion_mapping(inner, add_legacy=False)
        setattr(inner, CONVERSIONS, [one for one in found if not isinstance(one, PrefixChange)])


def save_streamed(inner: Any, folder: Path, dtype: torch.dtype | None) -> None:
    """Write weights and configuration as `save_pretrained` does, in files of at most `PART`.

    The first process of a sharded model calls this while the others call `take_part`. Raises OSError, when they are
    through.
    """
    parts = _parts(inner, dtype)
    try:
        inner.save_pretrained(str(folder), state_dict={})
        places: dict[str, str] = {}
        size = 0
        for file, tensors in parts:
            save_file(tensors, folder / file, metadata={"format": "pt"})
            places |= dict.fromkeys(tensors, file)
            size += sum(values.nbytes for values in tensors.values())
            del tensors
        if len(set(places.values())) > 1:
            metadata = {"total_parameters": inner.num_parameters(), "total_size": size}
            index = {"metadata": metadata, "weight_map": places}
            (folder / INDEX).write_text(json_text(index, 2) + "\n", encoding="utf-8")
    finally:
        for _ in parts:  # the others wait for this one in the next gathering
            pass


def take_part(inner: Any, dtype: torch.dtype | None) -> None:
    """Give the first process, which writes a sharded model, this one's parts of it."""
    for _ in _parts(inner, dtype):
        pass


def gathered_adapters(model: Any) -> State | None:
    """Return the whole tensors of a sharded model that an adapter folder may hold, on the CPU of the first process.

    Those are adapters, what is trained beside them, embeddings and buffers: frozen weights are not gathered. None for a
    model that is whole.
    """
    if not is_sharded(model):
        return None
    tuner = model.base_model
    prefix = tuner.prefix if isinstance(tuner, BaseTuner) else ""
    ends = [part for part in (model.get_input_embeddings(), model.get_output_embeddings()) if part is not None]
    kept = {id(weight) for part in ends for weight in part.parameters()}
    frozen = {
        name
        for name, weight in model.named_parameters(remove_duplicate=False)
        if not (weight.requires_grad or prefix in name or id(weight) in kept)
    }
    whole = {name: _whole(values, None) for name, values in model.state_dict().items() if name not in frozen}
    return {name: values for name, values in whole.items() if values is not None}


def _parts(inner: Any, dtype: torch.dtype | None) -> Iterator[tuple[str, State]]:
    """Yield files and their tensors, without tensors where this process does not write them."""
    outline = _outline(inner, dtype)
    state = inner.state_dict()
    found: State = {}
    groups, files = _plan(inner, outline)
    for names in groups:
        whole = {name: _whole(state[name], outline[name].dtype) for name in names}
        if rank() == 0:
            found |= revert_weight_conversion(inner, whole)
        del whole
        for file in [file for file, held in files.items() if found.keys() >= set(held)]:
            yield file, {name: found.pop(name).contiguous() for name in files.pop(file)}
    for file, held in _split(found).items() if found else ():
        yield file, {name: found.pop(name).contiguous() for name in held}


def _outline(inner: Any, dtype: torch.dtype | None) -> State:
    """Return what is written of a model, by its own names, without values."""
    cast = {name for name, _ in inner.named_parameters(remove_duplicate=False)} if dtype else set()
    ignored = set(inner._keys_to_ignore_on_save or ())
    outline = {
        name: torch.empty(values.shape, dtype=dtype if name in cast else values.dtype, device="meta")
        for name, values in inner.state_dict().items()
        if name not in ignored
    }
    return dict(remove_tied_weights_from_state_dict(outline, inner))


def _plan(inner: Any, outline: State) -> tuple[list[list[str]], dict[str, list[str]]]:
    """Return the names that are gathered together, and the tensors of every file.

    transformers makes the tensors of a file of those of a model, such as experts that are one tensor there; each block
    by itself, unless that gives others than the whole does.
    """
    groups = [list(names) for _, names in groupby(outline, _block)]
    try:
        whole = revert_weight_conversion(inner, dict(outline))
        apart = {
            name: values
            for names in groups
            for name, values in revert_weight_conversion(inner, {name: outline[name] for name in names}).items()
        }
        same = _facts(apart) == _facts(whole)
    except Exception as error:  # whatever a conversion says of tensors that it cannot have without others
        rank_zero_info(f"weights are written at once: transformers cannot convert them block by block ({error})")
        same = False
    return (groups, _split(apart)) if same else ([list(outline)], {})


def _block(name: str) -> str:
    """Return the part of a weight's name up to the first number, the name of a weight of no block."""
    numbered = re.match(r".*?\.\d+\.", name)
    return numbered[0] if numbered else name


def _facts(state: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (values.shape, values.dtype) for name, values in state.items()}


def _split(state: State) -> dict[str, list[str]]:
    split = split_torch_state_dict_into_shards(state, max_shard_size=PART)
    return dict(split.filename_to_tensors)


def _whole(values: Tensor, dtype: torch.dtype | None) -> Tensor | None:
    """Return a tensor on the CPU of the first process, None on others; every process calls."""
    values = values.detach() if dtype is None else values.detach().to(dtype)
    if not isinstance(values, DTensor):
        values = values.cut(()) if isinstance(values, FileWeight) else values  # a buffer that nothing wrote to
        return values.cpu() if rank() == 0 else None
    whole = values.full_tensor()
    return whole.cpu() if rank() == 0 else None
