"""A Hugging Face decoder seen as two calls: ids to hidden states, and hidden states to logits."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from align.errors import ConfigError, ModelError
from align.records import CandidateBatch
from align.scoring.head import Head
from align.scoring.layouts import Plan
from align.scoring.own_head import is_plain, own_logits
from align.scoring.packed_names import PLAIN_NAMES, attends_ours, attention_window
from align.scoring.packed_row import PackedRow
from align.scoring.rotary import apart, forget_lengths, unscaled_length


def unwrapped(model: nn.Module) -> Any:
    """Return the Hugging Face model inside a PEFT model (its adapters stay in place), or the model itself."""
    # PEFT gives the model inside a `peft_config` too, so that is no sign of the wrapper
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def decoder(model: nn.Module) -> Any:
    """Return the part that ends in hidden states: blocks and final norm, without the head."""
    inner = unwrapped(model)
    own = getattr(inner, inner.base_model_prefix, None)
    if own is not None:
        return own
    return next(part for part in inner.children() if hasattr(part, "config"))  # Llama 4 gives its prefix another name


RUN_DECODER = "run_decoder"
"""Method of a sharded model that gathers its weights around a call of its decoder."""


COMPILES = "compiles"
"""Where a decoder, and every copy of it, keeps whether it is compiled."""


def run_decoder(model: nn.Module, **inputs: Any) -> Any:
    """Call the decoder, as a sharded model wants it called; compiled code is kept with the decoder's own code."""
    body = decoder(model)
    call = getattr(unwrapped(model), RUN_DECODER, body)
    return (torch.compile(call, dynamic=True) if getattr(body, COMPILES, False) else call)(**inputs)


LANGUAGE_HEAD = "language_head"
"""Name under which a reward model keeps a vocabulary head beside its own."""
PLAIN_HEAD = "plain_head"
"""Where a model keeps whether its logits are its projection of the decoder's states and nothing more."""


def head(model: nn.Module) -> Head:
    """Return the vocabulary head: the projection alone where the model does no more, else its own code."""
    inner = unwrapped(model)
    if (beside := getattr(inner, LANGUAGE_HEAD, None)) is not None:
        return Head(beside, beside.weight.shape[0])
    projection, body = inner.get_output_embeddings(), decoder(model)
    if not hasattr(inner, PLAIN_HEAD):
        setattr(inner, PLAIN_HEAD, is_plain(inner, body, projection))
    if getattr(inner, PLAIN_HEAD):
        return Head(projection, projection.weight.shape[0])
    return Head(partial(own_logits, inner, body, projection), projection.weight.shape[0])


def hidden_states(model: nn.Module, plan: Plan) -> Float[Tensor, "position hidden"]:
    """Run the decoder over a plan and return its last hidden states, rows flattened one after another.

    Raises ModelError where attention did not go through our function, which a packed row needs.
    """
    inner = decoder(model)
    forget_lengths(inner, inner.config)
    if plan.lengths is not None and len(groups := apart(inner.config, plan.lengths)) > 1:
        return _apart(model, plan, groups)
    inputs: dict[str, Any] = {"attention_mask": plan.attention_mask}
    if plan.packed is not None:
        inputs["attention_mask"] = plan.packed.placeholder(plan.input_ids.device)
    elif plan.attention_mask is not None and _adds_masks(inner):
        closed = torch.finfo(inner.dtype).min  # eager attention adds its mask to the scores
        inputs["attention_mask"] = (~plan.attention_mask).to(inner.dtype) * closed
    if (
        plan.attention_mask is not None or plan.packed is not None or plan.shifted
    ):  # padded rows count their positions from 0, as every model does by itself
        inputs["position_ids"] = plan.position_ids
    states: Tensor = run_decoder(model, input_ids=plan.input_ids, use_cache=False, **inputs).last_hidden_state
    if plan.packed is not None:
        _check_packed(inner, plan.packed)
    return states.flatten(0, 1)


def _apart(model: nn.Module, plan: Plan, groups: list[list[int]]) -> Float[Tensor, "position hidden"]:
    """Run padded rows in groups, each as wide as its longest row."""
    assert plan.lengths is not None
    found: list[Tensor] = [torch.empty(0)] * len(plan.lengths)
    width = plan.input_ids.shape[1]
    for rows in groups:
        own = max(plan.lengths[row] for row in rows)
        part = plan._replace(
            input_ids=plan.input_ids[rows, :own],
            position_ids=plan.position_ids[rows, :own],
            lengths=tuple(plan.lengths[row] for row in rows),
        )
        states = hidden_states(model, part).view(len(rows), own, -1)
        for row, values in zip(rows, F.pad(states, (0, 0, 0, width - own)), strict=True):
            found[row] = values
    return torch.cat(found)


def _adds_masks(inner: Any) -> bool:
    named = inner.config._attn_implementation
    return bool(PLAIN_NAMES.get(named, named) == "eager")


def _check_packed(inner: Any, row: PackedRow) -> None:
    """Raise ModelError where no layer asked for the row, or one did not tell its window, and remember it."""
    if not row.asked:
        inner.packs = False
        raise ModelError(
            f"model type {inner.config.model_type} does not hand masks on to its attention, which layout 'packed' "
            "needs: set backbone.layout to shared or padded"
        )
    if not row.windows_told:
        inner.tells_windows = False
        if row.longest > attention_window(inner.config):
            raise ModelError(
                f"model type {inner.config.model_type} does not hand its attention windows on, which layout 'packed' "
                "needs for candidates that are longer: set backbone.layout to padded"
            )


def exact_layouts(model: nn.Module, batch: CandidateBatch) -> list[str]:
    """Return the layouts that are exact for this model and batch, padded rows first.

    A prompt cannot be shared by recurrent layers, under ALiBi, by a model that takes no position ids, or where rotary
    angles depend on a row's length; under attention windows shorter than a candidate in a packed row only, which needs
    our attention function. Layouts that a check found wrong for this model (`align.checks.layout_check`) are left out.
    """
    refused = getattr(unwrapped(model), "refused_layouts", ())
    return [name for name in _takes(model, batch) if name not in refused]


def _takes(model: nn.Module, batch: CandidateBatch) -> list[str]:
    """Return the layouts a model can take by what its configuration says."""
    inner = decoder(model)
    lengths = [batch.prompt_lengths[p] + r for p, r in zip(batch.prompt_of, batch.response_lengths, strict=True)]
    if not can_share(inner) or max(lengths) > unscaled_length(inner.config):
        return ["padded"]
    inside = max(lengths) <= attention_window(inner.config)
    packs = attends_ours(inner) and getattr(inner, "packs", True) and (inside or getattr(inner, "tells_windows", True))
    return ["padded", *["shared"] * inside, *["packed"] * packs]


def choose_layout(model: nn.Module, batch: CandidateBatch, layout: str = "auto") -> str:
    """Return the given layout, or for `auto` the fastest exact one.

    That is a packed row; else shared rows, or padded ones where no prompt is shared. Raises ConfigError for a layout
    that is not exact here.
    """
    exact = exact_layouts(model, batch)
    if layout != "auto":
        if layout not in exact:
            config = decoder(model).config
            attention = PLAIN_NAMES.get(config._attn_implementation, config._attn_implementation)
            raise ConfigError(
                f"backbone.layout: layout {layout!r} is not exact for model type {config.model_type} under {attention} "
                f"attention and candidates of these lengths, expected {' or '.join(exact)}: use 'auto'"
            )
        return layout
    if "packed" in exact:
        return "packed"
    shares = batch.num_candidates > len(batch.prompt_lengths)
    return "shared" if shares and "shared" in exact else "padded"


def can_share(inner: Any) -> bool:
    """Tell whether a decoder takes 4-D masks and position ids that count from 0, and has attention layers only."""
    if inner not in _SHARES:
        _SHARES[inner] = _is_plain_attention(inner)
    return _SHARES[inner] and "flash" not in (inner.config._attn_implementation or "")


_SHARES: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # all modules are looked at once, not in every step


def _is_plain_attention(inner: Any) -> bool:
    config = inner.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    takes_positions = "position_ids" in inspect.signature(inner.forward).parameters
    counts = not any(hasattr(part, "create_position_ids_from_input_ids") for part in inner.modules())
    plain = kinds <= {"full_attention", "sliding_attention"} and not getattr(config, "alibi", False)
    backend = getattr(inner, "_supports_attention_backend", False)
    return bool(takes_positions and counts and plain and backend)
