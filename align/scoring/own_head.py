"""What a model does after its decoder, run by its own code: norms, projections, factors, caps, under any name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from align.errors import ModelError, shorten


class _Given:
    """The output of a decoder that was not run: its last states, and nothing else it might be asked for."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    def __getitem__(self, index: Any) -> Any:
        return (self.last_hidden_state,)[index]

    def __len__(self) -> int:
        return 1


def own_logits(
    inner: Any, decoder: nn.Module, projection: nn.Module | None, hidden: Float[Tensor, "token hidden"]
) -> Float[Tensor, "token vocab"]:
    """Return the logits that a model makes of these states, by its own forward with the decoder left out.

    What follows the projection is computed in float32 (float64 for a float64 model).
    """
    dummy = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
    with _replaced(_parts(decoder), lambda *_, **__: _Given(hidden[None])), _widened(projection):
        # not a call, which hooks of sharding would see: the head's weights are there since the decoder ran
        logits: Tensor = type(inner).forward(inner, input_ids=dummy, use_cache=False, return_dict=True).logits
    return logits[0]


@torch.no_grad()
def is_plain(inner: Any, decoder: nn.Module, projection: nn.Module) -> bool:
    """Tell whether a model's logits are its projection of the decoder's states and nothing more; needs no weights.

    Raises ModelError for a model whose head reads more than its decoder's last states.
    """
    weight = projection.weight
    assert isinstance(weight, Tensor)
    size, width = weight.shape
    hidden = torch.linspace(-2, 2, 3 * width, device=weight.device).view(3, width).to(weight.dtype)
    marked = torch.linspace(-90, 90, 3 * size, device=weight.device).view(1, 3, size).to(weight.dtype)
    seen: list[Tensor] = []

    def mark(states: Tensor) -> Tensor:
        seen.append(states)
        return marked

    with _replaced([projection], mark):
        try:
            logits = own_logits(inner, decoder, None, hidden)
        except RuntimeError:  # there are weights before the projection, and they are sharded
            return False
        except (TypeError, LookupError, AttributeError, ValueError) as error:
            raise ModelError(
                f"model type {inner.config.model_type}: its head cannot be run apart from its decoder "
                f"({type(error).__name__}: {shorten(error, 120)}): take another model"
            ) from error
    same = len(seen) == 1 and seen[0].shape == (1, *hidden.shape) and torch.equal(seen[0][0], hidden)
    return same and logits.shape == marked.shape[1:] and torch.equal(logits, marked[0].to(logits.dtype))


def _parts(decoder: nn.Module) -> list[nn.Module]:
    """Return what may be called as the decoder: itself, and the part a thin wrapper around it passes calls to."""
    wrapped = getattr(decoder, "decoder", None)
    return [decoder, wrapped] if isinstance(wrapped, nn.Module) else [decoder]


@contextmanager
def _replaced(modules: list[nn.Module], call: Callable[..., Any]) -> Iterator[None]:
    """Let modules do something else for a while."""
    kept = [vars(module).get("forward") for module in modules]
    for module in modules:
        module.forward = call
    try:
        yield
    finally:
        for module, own in zip(modules, kept, strict=True):
            if own is None:
                del module.forward
            else:
                module.forward = own


@contextmanager
def _widened(projection: nn.Module | None) -> Iterator[None]:
    """Give out what a module computes in float32 at least."""
    if projection is None:
        yield
        return
    handle = projection.register_forward_hook(lambda _, __, out: out if out.dtype == torch.float64 else out.float())
    try:
        yield
    finally:
        handle.remove()
