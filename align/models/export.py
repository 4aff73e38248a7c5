"""Model folders that transformers, PEFT and vLLM open without our code."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor

from align.models.adapters import has_adapters
from align.models.combined import save_combined
from align.records import PromptFormat
from align.scoring.backbone import unwrapped


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
    """
    weights = _gathered(model)
    if merge and has_adapters(model):
        model = copy.deepcopy(model).merge_and_unload()  # type: ignore[operator]
        weights = None
    inner = unwrapped(model)
    if not is_writer():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rates = getattr(inner, "original_dropout", {})
    trained_with = {key: getattr(inner.config, key) for key in rates}
    _set(inner.config, rates)
    try:
        if has_adapters(model) and list(model.active_adapters) != ["default"]:  # type: ignore[arg-type]
            save_combined(model, folder, weights)
        elif has_adapters(model):
            model.save_pretrained(str(folder), selected_adapters=["default"], state_dict=weights)  # type: ignore[operator]
        else:
            _stop_at(inner, prompt_format)
            inner.save_pretrained(str(folder), state_dict=weights)
    finally:
        _set(inner.config, trained_with)
    _save_tokenizer(tokenizer, folder, prompt_format)
    if card:
        (folder / "README.md").write_text(card, encoding="utf-8")


def _gathered(model: nn.Module) -> dict[str, Tensor] | None:
    """Return whole tensors of a sharded model, on the CPU; None for a model that is whole already."""
    if not any(isinstance(p, DTensor) for p in model.parameters()):
        return None
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return dict(get_model_state_dict(model, options=options))  # type: ignore[arg-type]


def is_writer() -> bool:
    """Tell whether this process writes files for all."""
    import torch.distributed as dist

    return not dist.is_initialized() or dist.get_rank() == 0


def _set(config: Any, values: dict[str, float]) -> None:
    for key, value in values.items():
        setattr(config, key, value)


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
    if prompt_format is not None and not tokenizer.chat_template:
        tokenizer.chat_template = prompt_format.chat_template
    tokenizer.save_pretrained(str(folder))
