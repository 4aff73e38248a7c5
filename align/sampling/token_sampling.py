"""The next token of every row, from its logits and one uniform number."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from align.errors import ModelError


def sample_next_tokens(
    logits: Float[Tensor, "row vocab"], drawn: Float[Tensor, " row"], *, temperature: float, top_p: float
) -> Int[Tensor, " row"]:
    """Return the most probable token at temperature 0, else the token where the cumulative probability passes `drawn`.

    A row's token depends on its own logits and number only, and rounding of the logits moves it with a probability of
    that rounding's size. `drawn` lies in (0, 1], so a token of probability 0 is never taken.

    Raises ModelError for logits that are no numbers.
    """
    if temperature == 0:
        _check(logits.amax(-1))
        return logits.argmax(-1)
    probabilities = (logits.float() / temperature).softmax(-1)
    if top_p < 1:
        probabilities = nucleus(probabilities, top_p)
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1:]
    _check(total)
    return torch.searchsorted(cumulative, drawn[:, None] * total)[:, 0]


def nucleus(probabilities: Float[Tensor, "row vocab"], top_p: float) -> Float[Tensor, "row vocab"]:
    """Set to 0 what is outside the smallest set of tokens with probability `top_p` (Holtzman et al. 2019)."""
    ordered, order = probabilities.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probabilities).scatter(-1, order, ordered.where(before < top_p, 0.0))


def _check(values: Tensor) -> None:
    if not values.isfinite().all():
        raise ModelError("the policy's logits are no numbers: its weights are damaged or have diverged")
