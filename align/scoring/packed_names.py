"""Names under which attention over packed rows is known to transformers, and which attention a model looks back by."""

from __future__ import annotations

from typing import Any

PACKED_ATTENTION = "align_packed"
"""Our function; all other rows as under `sdpa`."""
BY_SCORES = f"{PACKED_ATTENTION}_eager"
"""Ours too, for soft caps and sinks; all other rows as under `eager`."""
FLEX = f"{PACKED_ATTENTION}_flex"
"""Ours, by FlexAttention wherever it is used; all other rows as under `sdpa`."""
FLEX_BY_SCORES = f"{PACKED_ATTENTION}_flex_eager"
"""The same for soft caps and sinks; all other rows as under `eager`."""
PLAIN_NAMES = {PACKED_ATTENTION: "sdpa", BY_SCORES: "eager", FLEX: "sdpa", FLEX_BY_SCORES: "eager"}
"""The attention a model would have had without us."""


def attends_ours(decoder: Any) -> bool:
    """Tell whether a decoder attends through our function."""
    return decoder.config._attn_implementation in PLAIN_NAMES


def attention_window(config: Any) -> float:
    """Return how many tokens a layer can look back, infinity for full attention."""
    config = config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and "sliding_attention" not in kinds:
        return float("inf")
    window = getattr(config, "sliding_window", None)
    return float("inf") if window is None else float(window)


def layer_window(config: Any, layer: int | None) -> int | None:
    """Return how many tokens one layer can look back, itself among them, None for full attention."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and layer is not None and kinds[layer] != "sliding_attention":
        return None
    found: int | None = getattr(config, "sliding_window", None)
    return found
