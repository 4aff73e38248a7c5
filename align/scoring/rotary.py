"""Rotary angles that depend on how long a row is: LongRoPE and dynamic scaling, beyond the length trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn


def unscaled_length(config: Any) -> float:
    """Return the longest row whose angles do not depend on its length; infinity for all other kinds of positions."""
    return min((_length(config, settings) for settings in _settings(config) if _depends(settings)), default=math.inf)


def apart(config: Any, lengths: Sequence[int]) -> list[list[int]]:
    """Return which rows may be computed together.

    transformers takes the angles of a whole batch from its longest row. With LongRoPE there are two sets of angles, for
    short and for long rows; with dynamic scaling every length beyond the trained one has its own.
    """
    limit = unscaled_length(config)
    dynamic = any("dynamic" in settings["rope_type"] for settings in _settings(config) if _depends(settings))
    groups: dict[float, list[int]] = {}
    for row, length in enumerate(lengths):
        key = 0 if length <= limit else length if dynamic else math.inf
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def forget_lengths(decoder: nn.Module, config: Any) -> None:
    """Undo what dynamic scaling has kept of longer rows before: it would go on with their angles."""
    if unscaled_length(config) == math.inf:
        return
    for module in decoder.modules():
        kinds = getattr(module, "rope_type", None)
        for prefix, kind in [(f"{k}_", v) for k, v in kinds.items()] if isinstance(kinds, dict) else [("", kinds)]:
            original = getattr(module, f"{prefix}original_inv_freq", None)
            if isinstance(kind, str) and "dynamic" in kind and original is not None:
                now = getattr(module, f"{prefix}inv_freq")
                module.register_buffer(f"{prefix}inv_freq", original.to(now.device), persistent=False)
                setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


def _settings(config: Any) -> Iterator[dict[str, Any]]:
    """Return the rotary settings of a model: one, or one per kind of layer."""
    whole = getattr(config.get_text_config(), "rope_parameters", None) or {}
    yield from [whole] if "rope_type" in whole else [part for part in whole.values() if isinstance(part, dict)]


def _depends(settings: dict[str, Any]) -> bool:
    kind = settings.get("rope_type") or ""
    return "dynamic" in kind or kind == "longrope"


def _length(config: Any, settings: dict[str, Any]) -> float:
    if settings["rope_type"] == "longrope":
        return float(settings["original_max_position_embeddings"])
    return float(config.get_text_config().max_position_embeddings)
