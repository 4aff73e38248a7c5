"""Time of a run: products that a step takes, at the share of a card's peak that was measured."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from align.scoring.decoder import decoder, unwrapped
from align.sizing.groups import TypicalGroup
from align.sizing.meta_model import blocks_of
from align.sizing.method import SizableMethod

MEASURED = ((0.36e9, 0.155), (6.98e9, 0.375))
"""Parameters of blocks, and the share of an H100's peak that DPO in packed rows reached with them, products that
checkpointing repeats counted (benchmarks/README.md: MFU .149 and .163 without, .281 and .282 of three passes with a
fourth). Between them the share is read off a line over log parameters, outside it is that of the nearer end."""


CHOSEN = ("num_experts_per_tok", "top_k_experts")
"""What configurations call the experts of a position (Gemma 4 the second)."""


STATES = ("mamba", "linear", "conv", "recurrent", "moe", "mlp")
"""What is in the names of layers that attend to nothing."""


class Work(NamedTuple):
    """Floating-point operations of a forward pass over one position."""

    blocks: float
    """Products with weights of the blocks, and attention."""
    head: float
    parameters: float
    """Parameters of the blocks that act on a position."""


def work_of(model: nn.Module, groups: TypicalGroup, *, head: bool) -> Work:
    """Return what a position takes in groups of these lengths."""
    config = unwrapped(model).config.get_text_config()
    acting = sum(_acting(decoder(model), config))
    prompt, response, count = groups.prompt, groups.response, groups.candidates
    seen = prompt**2 / 2 + count * (response * prompt + response**2 / 2)
    attention = 4 * _attending(config) * seen / groups.tokens
    projection = 2 * config.vocab_size * config.hidden_size * groups.scored if head else 0.0
    return Work(2 * acting + attention, projection, acting)


def _attending(config: Any) -> int:
    """Return the width of the heads of all layers that attend to what is before: not those that keep a state."""
    count = config.num_hidden_layers
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ["attention"] * count
    layers = zip(kinds, (config.per_layer_config[number] for number in range(count)), strict=False)
    return sum(_width(own) for kind, own in layers if not any(word in kind for word in STATES))


def _width(config: Any) -> int:
    """Return the width of the heads of a layer, 0 in a model without attention (Mamba 2)."""
    heads = getattr(config, "num_attention_heads", None) or 0
    return heads and heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)


def _acting(body: nn.Module, config: Any) -> Iterator[float]:
    """Yield the numbers of weights that a position is multiplied with: of experts those that are chosen."""
    chosen = next((found for name in CHOSEN if (found := getattr(config, name, None))), 1)
    blocks = dict(blocks_of(body).named_parameters())
    places = [re.sub(r"\.experts\.\d+\.", ".experts.*.", f".{name}") for name in blocks]
    apart = Counter(places)  # experts that are a module each
    for place, parameter in zip(places, blocks.values(), strict=True):
        if parameter.dim() > 1:
            experts = apart[place] if "*" in place else parameter.shape[0]  # of one tensor, its first axis
            yield parameter.numel() * (min(chosen / experts, 1.0) if ".experts." in place else 1.0)


class Passes(NamedTuple):
    """Forward passes that training on a position is worth."""

    trained: float
    """3, or 2 and the share of what is trained where most is frozen."""
    frozen: float
    """Of references and of states that are compared."""
    again: float
    """Of activations that are computed a second time."""
    depth: float = 1.0
    """Share of the blocks that are run."""
    beside: int = 0
    """Passes of a critic, trained and kept like the policy's."""

    @property
    def total(self) -> float:
        """Return the sum."""
        return self.depth * ((self.trained + self.again) * (1 + self.beside) + self.frozen)


def passes_of(module: SizableMethod, share_trained: float, *, checkpointed: bool) -> Passes:
    """Return those of a module that is built."""
    depth = max(module.layers) / len(blocks_of(decoder(module.model))) if module.layers else 1.0
    trained = 2 + min(share_trained, 1.0)
    return Passes(trained, float(module.frozen_passes), float(checkpointed), depth, module.passes_beside)


def share_of_peak(parameters: float) -> float:
    """Return the share of a card's peak to be expected of a model."""
    places, shares = zip(*MEASURED, strict=True)
    return float(np.interp(math.log(max(parameters, 1.0)), np.log(places), shares))


def positions_per_second(work: Work, passes: Passes, tflops: float) -> float:
    """Return the positions that one card computes in a second."""
    each = work.blocks * passes.total + work.head * (passes.trained + passes.frozen)
    return share_of_peak(work.parameters) * tflops * 1e12 / each
