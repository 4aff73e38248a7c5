"""Model folders that transformers, PEFT and vLLM open without our code."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from align.distributed import rank
from align.errors import ConfigError
from align.models.adapter_names import keep_names
from align.models.adapters import has_adapters
from align.models.combined import save_combined
from align.models.deterministic import noted_rates, off, set_rates
from align.models.masters import asked_dtype
from align.models.merging import write_merged
from align.models.principal_start import save_plain, starts_principal
from align.models.processor_files import copy_processor
from align.models.reward_card import scored_by
from align.models.reward_head import opened_by
from align.models.streamed_weights import State, gathered_adapters, is_sharded, save_streamed, take_part
from align.records import PromptFormat
from align.scoring.decoder import unwrapped


def export_model(
    model: nn.Module,
    tokenizer: Any,
    folder: Path,
    *,
    merge: bool = False,
    prompt_format: PromptFormat | None = None,
    card: str = "",
) -> None:
    """Write weights, configuration, tokenizer and card: a full folder, or an adapter folder where there are adapters.

    `merge` adds the adapters to the weights and writes a full folder. In a distributed run every rank must call.

    Raises ModelError for a merged folder that would score otherwise than the model.
    """
    sharded, adapted = is_sharded(model), has_adapters(model)
    merges = merge and adapted
    if merges and sharded:
        raise ConfigError(
            "a model sharded over processes cannot be merged: export it, then `align export --merge true`"
        )
    weights = gathered_adapters(model) if adapted else None
    if not is_writer():
        if sharded and not adapted:
            take_part(unwrapped(model), asked_dtype(unwrapped(model)))
        return

    def write(whole: nn.Module, into: Path, dtype: torch.dtype | None) -> None:
        _write(whole, into, weights, dtype, prompt_format)
        _save_tokenizer(tokenizer, into, prompt_format)
        if card:
            inner = unwrapped(whole)
            notes = dtype_note(whole, dtype) + opened_by(inner, adapters=has_adapters(whole))
            notes += scored_by(tokenizer, prompt_format) if hasattr(inner, "score") else ""
            (into / "README.md").write_text(card + notes, encoding="utf-8")

    if merges:
        write_merged(model, tokenizer, folder, write)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write(model, folder, asked_dtype(unwrapped(model)))


def dtype_note(model: nn.Module, dtype: torch.dtype | None) -> str:
    """Return what a card says of weights that are written in another dtype than they have."""
    own = unwrapped(model).dtype
    if dtype in (None, own):
        return ""
    return f"\n## Weights\n\nWritten in {_name(dtype)}; trained, or merged, in {_name(own)}.\n"


def _write(
    model: nn.Module,
    folder: Path,
    weights: State | None,
    dtype: torch.dtype | None,
    prompt_format: PromptFormat | None,
) -> None:
    inner = unwrapped(model)
    rates = noted_rates(inner)
    set_rates(inner.config, rates)
    try:
        if has_adapters(model) and list(model.active_adapters) != ["default"]:  # type: ignore[arg-type]
            save_combined(model, folder, weights)
        elif starts_principal(model):
            save_plain(model, folder)
        elif has_adapters(model):
            model.save_pretrained(str(folder), selected_adapters=["default"], state_dict=weights)  # type: ignore[operator]
        else:
            _stop_at(inner, prompt_format)
            _save_full(inner, folder, dtype)
            copy_processor(inner, folder)
        if has_adapters(model):
            keep_names(model, folder)
    finally:
        set_rates(inner.config, off(rates))


def _save_full(inner: Any, folder: Path, dtype: torch.dtype | None) -> None:
    """Save a whole model, its parameters in another dtype where one is given."""
    if dtype in (None, inner.dtype) and not is_sharded(inner):
        inner.save_pretrained(str(folder))
        return
    save_streamed(inner, folder, dtype)
    if dtype is not None:
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**config, "dtype": _name(dtype)}, indent=2) + "\n", encoding="utf-8")


def _name(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")


def is_writer() -> bool:
    """Tell whether this process writes files for all."""
    return rank() == 0


def _stop_at(inner: Any, prompt_format: PromptFormat | None) -> None:
    """Let generation stop at the token that ends a response."""
    settings = getattr(inner, "generation_config", None)
    if settings is None or prompt_format is None:
        return
    known: int | Sequence[int] | None = settings.eos_token_id
    ends = [] if known is None else [known] if isinstance(known, int) else list(known)
    if prompt_format.eos_id not in ends:
        settings.eos_token_id = [*ends, prompt_format.eos_id]


def _save_tokenizer(tokenizer: Any, folder: Path, prompt_format: PromptFormat | None) -> None:
    tokenizer = copy.copy(tokenizer)
    if prompt_format is not None:
        tokenizer.chat_template = prompt_format.chat_template
    tokenizer.save_pretrained(str(folder))
