"""Teaches transformers our attention over packed rows: one name that behaves as `sdpa` unless a row is given."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from align.scoring.decoder import PACKED_ATTENTION, attention_window
from align.scoring.packed_row import PackedRow, carried


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    load = carried(attention_mask)
    if load is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output, None
    if not isinstance(load, PackedRow):  # one more token of rows that go on from shared prompts
        return load.attend(module.layer_idx, query, key, value, options.get("scaling")), None
    dropout = options.get("dropout", 0.0)
    return load.attend(query, key, value, scale=options.get("scaling"), dropout_p=dropout), None


def use_packed_attention(model: Any) -> None:
    """Switch a model whose attention goes through transformers' interface and would use `sdpa` to ours.

    One that is to use FlashAttention is switched too, where it can share prompts without windows: in packed rows the
    same kernels run, those of torch.
    """
    ALL_ATTENTION_FUNCTIONS.register(PACKED_ATTENTION, _attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(PACKED_ATTENTION, sdpa_mask)
    named = model.config._attn_implementation
    if not getattr(model, "_supports_attention_backend", False):
        return
    whole = attention_window(model.config) == math.inf
    if named == "sdpa" or (whole and named.startswith("flash_attention")):
        model.set_attn_implementation(PACKED_ATTENTION)
        if named != "sdpa":
            rank_zero_info(f"attn_implementation {named}: packed rows share prompts by the flash kernels of torch")
