"""Teaches transformers our attention over packed rows: names that behave as `sdpa` or `eager` unless a row is given."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from align.scoring.attention_rule import AttentionRule
from align.scoring.packed_names import (
    BY_SCORES,
    FLEX,
    FLEX_BY_SCORES,
    PACKED_ATTENTION,
    PLAIN_NAMES,
    attention_window,
    layer_window,
)
from align.scoring.packed_row import PackedRow, carried

OWN_EAGER = "eager_attention_forward"
"""Attention whose scores are written out, as every file of transformers' models has it."""

COMPARED = re.compile(r"_attn_implementation (?:==|in) (\([^)]*\)|\S+)")
"""Names of attentions that a layer's code asks for."""


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    flex: bool,
    plain: Callable[..., tuple[Tensor, Any]],
    **options: Any,
) -> tuple[Tensor, None]:
    load = carried(attention_mask)
    if load is None:
        return plain(module, query, key, value, attention_mask, **options)[0], None
    scale = options.get("scaling")
    if not isinstance(load, PackedRow):  # one more token of rows that go on from shared prompts
        return load.attend(module.layer_idx, query, key, value, scale), None
    rule = AttentionRule(options.get("sliding_window"), options.get("softcap"), options.get("s_aux"))
    if rule.window != layer_window(module.config, getattr(module, "layer_idx", None)):
        load.windows_told = False
    dropout = options.get("dropout", 0.0)
    return load.attend(query, key, value, scale=scale, dropout_p=dropout, rule=rule, flex=flex), None


def _own_eager(module: nn.Module, *arguments: Any, **options: Any) -> tuple[Tensor, Any]:
    found: tuple[Tensor, Any] = getattr(sys.modules[type(module).__module__], OWN_EAGER)(module, *arguments, **options)
    return found


def use_packed_attention(model: Any, asked: str = "auto") -> None:
    """Switch a model whose attention goes through transformers' interface to ours.

    One that would use `sdpa`; one that would use `eager` because it has soft caps or sinks; one that is to use
    FlexAttention, which then computes packed rows; and one that is to use FlashAttention, where it can share prompts
    without windows: in packed rows the same kernels run, those of torch.

    Args:
        model: A model of transformers.
        asked: What `backbone.attn_implementation` says; `eager` that is asked for stays.
    """
    _register()
    named = model.config._attn_implementation
    if not getattr(model, "_supports_attention_backend", False) or _knows_by_name(model, named):
        return
    if named.startswith("flash_attention") and attention_window(model.config) == math.inf:
        model.set_attn_implementation(PACKED_ATTENTION)
        rank_zero_info(f"attn_implementation {named}: packed rows share prompts by the flash kernels of torch")
    elif named == "sdpa":
        model.set_attn_implementation(PACKED_ATTENTION)
    elif named == "flex_attention":
        model.set_attn_implementation(FLEX if model._supports_sdpa else FLEX_BY_SCORES)
    elif named == "eager" and asked == "auto" and not model._supports_sdpa and _takes_rules(model):
        model.set_attn_implementation(BY_SCORES)


def _knows_by_name(model: nn.Module, named: str) -> bool:
    """Tell whether a layer does something under this name of an attention that it would not do under ours.

    Sparse attentions (DeepSeek V3.2, GLM 5, MiniMax M3) close their masks to all but the tokens that they chose only
    where they read `sdpa` or `eager`, and hand the choice to any other function, beside a mask that is open.
    """
    kinds = {type(layer) for layer in model.modules() if type(layer).__module__.startswith("transformers")}
    compared = [names for kind in kinds for names in COMPARED.findall(inspect.getsource(kind.forward))]
    return any(f'"{named}"' in names for names in compared)


def _takes_rules(model: Any) -> bool:
    """Tell whether FlexAttention of transformers computes this model's attention, so that its arguments say it all."""
    return bool(model._supports_flex_attn and hasattr(sys.modules[type(model).__module__], OWN_EAGER))


def _register() -> None:
    for name, like in PLAIN_NAMES.items():
        plain = sdpa_attention_forward if like == "sdpa" else _own_eager
        function = partial(_attention, flex=name in {FLEX, FLEX_BY_SCORES}, plain=plain)
        ALL_ATTENTION_FUNCTIONS.register(name, function)
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, sdpa_mask if like == "sdpa" else eager_mask)
