"""Hidden states that methods read under frozen adapters, ours and those of a plain forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from align.checks.layout_check import Scoring
from align.checks.plain import runs
from align.errors import StatesError
from align.models.adapters import adapters_active
from align.models.response_states import response_states
from align.records import CandidateBatch
from align.scoring.decoder import unwrapped


def states_under(adapters: Sequence[str], layers: Sequence[int]) -> Scoring:
    """Return the comparison of the states of the base with one of its adapters, or with none.

    Our side switches adapters as the methods do, the plain side by PEFT's own calls.
    """

    def ours(model: nn.Module, batch: CandidateBatch, layout: str) -> Tensor:
        with adapters_active(model, adapters):
            return response_states(model, batch, layers, layout=layout).values.flatten()

    def plain(model: nn.Module, batch: CandidateBatch, *, padded: bool = False) -> Tensor:
        with _by_peft(model, adapters):
            return _plain_states(model, batch, layers, padded=padded)

    under = f"under adapter {adapters[0]}" if adapters else "of the base"
    return Scoring(f"hidden states {under}", ours, plain, 1.0)


def _plain_states(model: nn.Module, batch: CandidateBatch, layers: Sequence[int], *, padded: bool) -> Tensor:
    """Return what blocks give at the last prompt token and the response of each candidate, run alone or padded."""
    found = []
    with _outputs(model, layers) as kept:
        for place, (ids, _) in enumerate(runs(model, batch, padded)):
            row, count = place if padded else 0, batch.response_lengths[place] + 1
            found.append(torch.stack([kept[layer][row, len(ids) - count : len(ids)] for layer in layers]))
    return torch.cat(found, dim=1).flatten()


@contextmanager
def _by_peft(model: Any, adapters: Sequence[str]) -> Iterator[None]:
    """Run with the first of the adapters, or with none, as PEFT switches them, and put everything back."""
    active, trained = list(model.active_adapters), [p for p in model.parameters() if p.requires_grad]
    try:
        if adapters:
            model.set_adapter(adapters[0], inference_mode=True)
            yield
        else:
            with model.disable_adapter():
                yield
    finally:
        model.base_model.set_adapter(active)
        model.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _outputs(model: nn.Module, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Keep what the block before each layer gave last."""
    kept: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(block: nn.Module, inputs: Any, output: Any) -> None:
            kept[layer] = output[0] if isinstance(output, tuple) else output
            StatesError.check_streams(type(block).__name__, kept[layer].shape)

        return hook

    inner: Any = unwrapped(model)
    config = inner.config.get_text_config()
    depths = {config.num_hidden_layers, getattr(config, "num_layers", None)}  # LongCat's blocks count as two layers
    texts = (inner.get_decoder(), inner)  # without a tower for pictures, which may be as deep; ModernBERT's is its head
    parts = (part for text in texts for part in text.modules() if isinstance(part, nn.ModuleList))
    blocks = next(part for part in parts if len(part) in depths)
    handles = [blocks[layer - 1].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
