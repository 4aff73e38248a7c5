"""A tap on the residual stream: hooks that keep the states of chosen layers at chosen positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from align.activations.decoder_parts import decoder_parts
from align.errors import StatesError


class ActivationRecorder:
    """Keeps the states of some layers during the calls made inside its context.

    Layer l is what block l + 1 reads: Hugging Face's `hidden_states[l]`, but for the last layer, which is taken before
    the final norm. Blocks above the highest layer are left out of the list of blocks while the context lasts, so they
    cost nothing; what the decoder returns then is no output of the whole model, and the head must not be run. Hooks and
    blocks are as before afterwards, also after an exception.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[int],
        positions: Int[Tensor, " token"] | None = None,
        *,
        stop: bool = True,
    ) -> None:
        """Prepare a tap.

        Args:
            model: A causal language model, also with adapters.
            layers: Layers of 1..number of blocks.
            positions: Flat indices into `[row, position]` to keep; null keeps all.
            stop: Leave out the blocks above the highest layer.
        """
        self._parts, self.layers, self._positions, self._stop = decoder_parts(model), list(layers), positions, stop
        self._whole = self._parts.blocks
        self._kept: dict[int, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> ActivationRecorder:
        for layer in self.layers:
            self._handles.append(self._whole[layer - 1].register_forward_hook(self._keeper(layer)))
        if self._stop:
            setattr(self._parts.owner, self._parts.name, self._whole[: max(self.layers)])
        return self

    def __exit__(self, *_: object) -> None:
        setattr(self._parts.owner, self._parts.name, self._whole)
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _keeper(self, layer: int) -> Any:
        def keep(block: nn.Module, inputs: Any, output: Any) -> None:
            states: Tensor = output if isinstance(output, Tensor) else output[0]  # a tuple before transformers 5
            StatesError.check_streams(type(block).__name__, states.shape)
            self._kept[layer] = states if self._positions is None else states.flatten(0, 1)[self._positions]

        return keep

    def states(self) -> Float[Tensor, "layer ..."]:
        """Return the states of the last call, layers in the order asked for: `[layer, token, hidden]` at positions."""
        return torch.stack([self._kept[layer] for layer in self.layers])
