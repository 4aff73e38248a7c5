"""Steering: adding a vector to the residual stream while a model runs, also with a key-value cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from align.activations.decoder_parts import decoder_parts
from align.errors import ConfigError

Where = Literal["all", "prompt", "generated"]


@dataclass(frozen=True)
class Steering:
    """How vectors are added: `h + coefficient u` at layers (Zou et al. 2023, arXiv:2310.01405, section 3.2)."""

    coefficient: float = 1.0
    """Factor on the vectors; a negative one steers the other way."""
    where: Where = "all"
    """Positions that are changed: of the prompt, of what is generated (one column per step), or all."""
    keep_norm: bool = False
    """Scale every changed state back to the norm it had."""
    sign_aware: bool = False
    """Add sign(<h, u>) u instead: strengthen what is there (the piece-wise operator of the paper)."""

    def moved(self, states: Float[Tensor, "row position hidden"], vector: Tensor) -> Tensor:
        """Return changed states."""
        states_, vector = states.float(), vector.to(states.device).float()
        step = self.coefficient * vector
        if self.sign_aware:
            step = torch.sign(states_ @ vector)[..., None] * step
        moved = states_ + step
        if self.keep_norm:
            moved = moved * (states_.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True).clamp_min(1e-12))
        return moved.to(states.dtype)

    def applies(self, positions: int) -> bool:
        """Tell whether a call over so many positions is changed: a prompt is read at once, then one token a step."""
        return self.where == "all" or (self.where == "generated") == (positions == 1)


@contextmanager
def steered(model: nn.Module, vectors: Mapping[int, Tensor], steering: Steering) -> Iterator[None]:
    """Steer a model for the time of a context; vectors by layer of 1..number of blocks.

    The output of block l - 1 is changed (layer l). A Tap sees the changed state; `output_hidden_states` of transformers
    does not show it at that layer. At several layers the changes add up along the stream. Changed states of padding
    have no effect, since no token attends to padding.
    """
    blocks = decoder_parts(model).blocks
    wrong = [layer for layer in vectors if not 1 <= layer <= len(blocks)]
    width = getattr(model, "config", None) and model.config.get_text_config().hidden_size  # type: ignore[union-attr,operator]
    if wrong:
        raise ConfigError(f"steering layer {wrong[0]}: the model has layers 1..{len(blocks)}")
    for layer, vector in vectors.items():
        if vector.shape[-1] != width:
            raise ConfigError(f"steering vector of layer {layer}: {vector.shape[-1]} wide, the model has {width}")
    handles = [
        blocks[layer - 1].register_forward_hook(_changer(vector, steering), prepend=True)
        for layer, vector in vectors.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _changer(vector: Tensor, steering: Steering) -> Any:
    def change(block: nn.Module, inputs: Any, output: Any) -> Any:
        states = output if isinstance(output, Tensor) else output[0]
        if not steering.applies(states.shape[1]):
            return None
        moved = steering.moved(states, vector)
        return moved if isinstance(output, Tensor) else (moved, *output[1:])

    return change
