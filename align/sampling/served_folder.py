"""A policy written as servers load it: an adapter folder, or a whole one that draws from the model alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import GenerationConfig

from align.models.adapters import has_adapters
from align.models.model_export import export_model, is_writer
from align.records import PromptFormat


def write_for_servers(
    model: nn.Module,
    tokenizer: Any,
    folder: Path,
    prompt_format: PromptFormat,
    *,
    whole: bool,
    eos_ids: Sequence[int] = (),
) -> None:
    """Write a model as it is into a folder, adapters merged where it is to be whole; every process calls.

    `eos_ids` end a response beside the token of the format.
    """
    export_model(model, tokenizer, folder, merge=whole and has_adapters(model), prompt_format=prompt_format)
    if whole and is_writer():
        ends = list(dict.fromkeys([prompt_format.eos_id, *eos_ids]))
        _drawing(tokenizer, ends).save_pretrained(folder)


def _drawing(tokenizer: Any, ends: list[int]) -> GenerationConfig:
    """Return generation settings that draw from the model alone: a server takes from them what no request says."""
    pad = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=ends[0] if len(ends) == 1 else ends,
        pad_token_id=pad,
        bos_token_id=tokenizer.bos_token_id,
    )
