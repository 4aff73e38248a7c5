"""The language-model head on chosen positions only, in float32, in tiles when memory asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from align.scoring.linear_logprobs import linear_logprobs
from align.scoring.short_linear import ShortLinear


@dataclass(frozen=True)
class Head:
    """From a decoder's states to logits."""

    projection: Callable[[Tensor], Tensor]
    """A vocabulary projection, or all that a model does after its decoder (see `align.scoring.own_head`)."""
    vocab_size: int

    def logits(self, hidden: Float[Tensor, "token hidden"]) -> Float[Tensor, "token vocab"]:
        """Return float32 logits (float64 for a float64 model)."""
        logits = self.projection(hidden)
        return logits if logits.dtype == torch.float64 else logits.float()

    def logprobs(
        self, hidden: Float[Tensor, "token hidden"], targets: Int[Tensor, " token"]
    ) -> Float[Tensor, " token"]:
        """Return the log-probability of each target, in nats."""
        return _target_logprobs(self.logits(hidden), targets)

    def tiled_logprobs(
        self, hidden: Float[Tensor, "token hidden"], targets: Int[Tensor, " token"], budget: int
    ) -> Float[Tensor, " token"]:
        """Return the log-probability of each target; no more than `budget` bytes of logits exist at once."""
        rows, matrix = max(budget // (8 * self.vocab_size), 1), self._matrix()
        if matrix is None or len(hidden) <= rows:
            return tiled(self.logprobs, (hidden, targets), 8 * self.vocab_size, budget)
        return linear_logprobs(hidden, matrix, targets, rows)

    def _matrix(self) -> Tensor | None:
        """Return the vocabulary matrix where the head is the product with one and nothing more."""
        layer: Any = self.projection
        if (
            type(layer) not in (nn.Linear, ShortLinear)
            or layer._parameters["bias"] is not None
            or layer._forward_hooks
            or layer._forward_pre_hooks
        ):
            return None
        return None if isinstance(layer.weight, DTensor) else layer.weight

    def logprobs_and_collisions(
        self, hidden: Float[Tensor, "token hidden"], targets: Int[Tensor, " token"]
    ) -> Float[Tensor, "2 token"]:
        """Return the log-probability of each target and, without gradient, log sum_v p(v)^2 where it stands."""
        logits = self.logits(hidden)
        with torch.no_grad():
            collisions = (2 * logits).logsumexp(-1) - 2 * logits.logsumexp(-1)
        return torch.stack([_target_logprobs(logits, targets), collisions])

    def logprobs_and_entropies(
        self, hidden: Float[Tensor, "token hidden"], targets: Int[Tensor, " token"]
    ) -> Float[Tensor, "2 token"]:
        """Return the log-probability of each target and, without gradient, the entropy where it stands, in nats."""
        logits = self.logits(hidden)
        with torch.no_grad():
            entropies = _entropies(logits.log_softmax(-1))
        return torch.stack([_target_logprobs(logits, targets), entropies])

    def logprobs_and_entropy_gradients(
        self, hidden: Float[Tensor, "token hidden"], targets: Int[Tensor, " token"]
    ) -> Float[Tensor, "2 token"]:
        """Return both with gradient, which keeps a second matrix of logits."""
        every = self.logits(hidden).log_softmax(-1)
        return torch.stack([every.gather(1, targets[:, None])[:, 0], _entropies(every)])

    def cooled(self, temperature: float) -> Head:
        """Return the head with its logits divided by a temperature."""
        if temperature == 1:
            return self
        return Head(lambda hidden: self.projection(hidden) / temperature, self.vocab_size)


class _TargetLogprobs(torch.autograd.Function):
    """`log_softmax` at the targets, keeping the logits and one number per token where torch keeps a second matrix."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        normalizers = logits.logsumexp(-1)
        ctx.save_for_backward(logits, targets, normalizers)
        return logits.gather(1, targets[:, None])[:, 0] - normalizers

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, targets, normalizers = ctx.saved_tensors
        probabilities = (logits - normalizers[:, None]).exp_()
        own = probabilities.mul_(-gradient[:, None]).scatter_add_(1, targets[:, None], gradient[:, None])
        return own, None


def _target_logprobs(logits: Float[Tensor, "token vocab"], targets: Int[Tensor, " token"]) -> Float[Tensor, " token"]:
    logprobs: Tensor = _TargetLogprobs.apply(logits, targets)  # type: ignore[no-untyped-call]
    return logprobs


def _entropies(logprobs: Float[Tensor, "token vocab"]) -> Float[Tensor, " token"]:
    """Return the entropies; a token that cannot be drawn adds nothing, and no NaN to the gradient."""
    return -(logprobs.exp() * logprobs.clamp_min(-1e4)).sum(-1)


def tiled(measure: Callable[..., Tensor], tokens: Sequence[Tensor], row_bytes: int, budget: int) -> Tensor:
    """Return what `measure` says of every token, its last axis, without holding more than `budget` bytes of logits.

    Below the budget it runs once. Above it the logits of a tile are dropped after use and computed again in the
    backward pass, which costs 15-27 % time.

    Args:
        measure: Maps `tokens` to numbers per token; computes logits.
        tokens: Tensors whose first axis is the token.
        row_bytes: Bytes that logits and their gradient take per token.
        budget: Bytes that all logits alive at once may take.
    """
    rows = max(budget // row_bytes, 1)
    if len(tokens[0]) <= rows:
        return measure(*tokens)
    tiles = zip(*(torch.split(values, rows) for values in tokens), strict=True)
    return torch.cat([checkpoint(measure, *tile, use_reentrant=False, preserve_rng_state=False) for tile in tiles], -1)
