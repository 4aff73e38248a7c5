"""The language-model head on chosen positions only, in float32, in tiles when memory asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Head:
    """A vocabulary projection and what the model does to its logits before the softmax."""

    projection: nn.Module
    vocab_size: int
    scale: float = 1.0
    """Factor on the logits (`logit_scale` of Cohere, 1 / `logits_scaling` of Granite)."""
    softcap: float | None = None
    """`final_logit_softcapping` of Gemma 2: logits become `softcap * tanh(logits / softcap)`."""

    def logits(self, hidden: Float[Tensor, "token hidden"]) -> Float[Tensor, "token vocab"]:
        """Return float32 logits (float64 for a float64 model)."""
        logits: Tensor = self.projection(hidden)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def logprobs(
        self, hidden: Float[Tensor, "token hidden"], targets: Int[Tensor, " token"]
    ) -> Float[Tensor, " token"]:
        """Return the log-probability of each target, in nats."""
        logprobs: Tensor = _TargetLogprobs.apply(self.logits(hidden), targets)  # type: ignore[no-untyped-call]
        return logprobs


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


def tiled_logprobs(
    head: Head, hidden: Float[Tensor, "token hidden"], targets: Int[Tensor, " token"], budget: int
) -> Float[Tensor, " token"]:
    """Return the log-probability of each target without holding more than `budget` bytes of logits.

    Below the budget the head runs once. Above it the logits of a tile are dropped after use and computed again in the
    backward pass, which costs 15-27 % time.
    """
    rows = max(budget // (8 * head.vocab_size), 1)  # logits and their gradient, 4 bytes each
    if len(targets) <= rows:
        return head.logprobs(hidden, targets)
    tiles = zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
    return torch.cat([checkpoint(head.logprobs, h, t, use_reentrant=False, preserve_rng_state=False) for h, t in tiles])
