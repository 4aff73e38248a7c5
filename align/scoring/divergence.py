"""KL divergences over the whole vocabulary, at the tokens of responses."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from align.records.candidate_matrix import sum_runs
from align.scoring.decoder import head
from align.scoring.head import tiled
from align.scoring.responses import TokenStates

Logits = Callable[[Float[Tensor, "token hidden"]], Float[Tensor, "token vocab"]]
"""A head: from states to logits."""


def forward_kl(
    model: nn.Module,
    states: TokenStates,
    reference: Float[Tensor, "token hidden"],
    reference_logits: Logits,
    *,
    logit_bytes: int,
) -> Float[Tensor, " candidate"]:
    """Return KL(reference || policy) before each response token, summed over the response, in nats.

    Args:
        model: The policy.
        states: Its states.
        reference: The reference's states before the same tokens.
        reference_logits: The reference's head, without gradient.
        logit_bytes: Logits of both are computed in tiles when they would take more bytes than this.
    """
    own = head(model)

    def divergence(hidden: Tensor, anchor: Tensor) -> Tensor:
        target = reference_logits(anchor).log_softmax(-1)
        return (target.exp() * (target - own.logits(hidden).log_softmax(-1))).sum(-1)

    tokens = tiled(divergence, (states.hidden, reference), 16 * own.vocab_size, logit_bytes)
    return sum_runs(tokens, states.counts)
