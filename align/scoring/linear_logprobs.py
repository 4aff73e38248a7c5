"""Log-probabilities under a vocabulary matrix, tile by tile, without keeping logits or computing them again in vain.

What the loss makes of a token's log-probability is one factor on its gradient. So under a frozen matrix the gradient of
the states is made in the forward pass, up to that factor, where the tile's probabilities are at hand: two products in
all. The gradient of a trained matrix needs the factors before it can be summed, so its tiles are computed again, once
for both gradients; it is summed over tiles in float32 at least.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


def linear_logprobs(
    hidden: Float[Tensor, "token hidden"],
    matrix: Float[Tensor, "vocab hidden"],
    targets: Int[Tensor, " token"],
    rows: int,
) -> Float[Tensor, " token"]:
    """Return the log-probability of each target, in float32 at least; logits of `rows` tokens exist at once."""
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    found: Tensor = _LinearLogprobs.apply(hidden, matrix, targets, rows)  # type: ignore[no-untyped-call]
    return found


class _LinearLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, matrix: Tensor, targets: Tensor, rows: int) -> Tensor:
        narrow = matrix.to(hidden.dtype)  # once, not in every tile
        ahead = ctx.needs_input_grad[0] and not ctx.needs_input_grad[1]
        own, found = torch.empty_like(hidden) if ahead else None, []
        for tile in _tiles(len(hidden), rows):
            table = _log_softmax(hidden[tile], narrow)
            found.append(table.gather(1, targets[tile, None])[:, 0])
            if own is not None:
                own[tile] = narrow[targets[tile]] - table.exp_().to(narrow.dtype) @ narrow
        ctx.rows = rows
        ctx.save_for_backward(*([own] if ahead else [hidden, matrix, targets]))
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        if not ctx.needs_input_grad[1]:
            (own,) = ctx.saved_tensors
            return (own * gradient[:, None]).to(own.dtype), None, None, None
        hidden, matrix, targets = ctx.saved_tensors
        narrow = matrix.to(hidden.dtype)
        of_hidden = torch.empty_like(hidden)
        of_matrix = torch.zeros_like(matrix, dtype=torch.promote_types(matrix.dtype, torch.float32))
        for tile in _tiles(len(hidden), ctx.rows):
            factor = gradient[tile, None]
            table = _log_softmax(hidden[tile], narrow).exp_().mul_(-factor)
            of_logits = table.scatter_add_(1, targets[tile, None], factor.to(table.dtype)).to(hidden.dtype)
            of_hidden[tile] = of_logits @ narrow
            of_matrix += _wide_product(of_logits.T, hidden[tile])
        return of_hidden if ctx.needs_input_grad[0] else None, of_matrix.to(matrix.dtype), None, None


def _tiles(tokens: int, rows: int) -> list[slice]:
    return [slice(start, start + rows) for start in range(0, tokens, rows)]


def _log_softmax(hidden: Tensor, matrix: Tensor) -> Tensor:
    return (hidden @ matrix.T).log_softmax(-1, torch.promote_types(hidden.dtype, torch.float32))


def _wide_product(left: Tensor, right: Tensor) -> Tensor:
    """Return a product in float32 where its factors are narrower: on a GPU the sums are never rounded."""
    if left.device.type == "cuda" and left.dtype in (torch.float16, torch.bfloat16):
        return torch.mm(left, right, out_dtype=torch.float32)
    return left @ right
