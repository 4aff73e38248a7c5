"""Which tokens of an optimiser step have the highest entropy, over its micro-batches and all ranks."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from align.distributed import world_size
from align.records import CandidateBatch, SampledTokens, Step
from align.scoring import TokenStates
from align.training.step_quantiles import gathered_rows


class ReadsTokens(Protocol):
    """A module that reads the tokens of a batch under its model."""

    model: nn.Module

    def sampled_tokens(self, batch: CandidateBatch, states: TokenStates) -> SampledTokens:
        """Return the tokens of a batch under the policy."""

    def _states(self, model: nn.Module, batch: CandidateBatch) -> TokenStates: ...


class HighTokens(NamedTuple):
    """What is known of a step."""

    threshold: Float[Tensor, ""]
    """Entropy from which a token is among the highest."""
    number: Float[Tensor, ""]
    """How many there are, at least 1."""


class HighEntropy:
    """Finds the share of a step's tokens that have the highest entropy under the policy as it is.

    As TRL's `get_high_entropy_mask`, but over the whole step, so that how it is cut changes nothing: a step of several
    micro-batches, or on several ranks, costs one forward pass more.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._found: HighTokens | None = None

    @torch.no_grad()
    def begin_step(self, module: ReadsTokens, step: Step) -> None:
        """Look at the step before its first micro-batch, where that is not all of it."""
        self._found = None
        if self.share == 1 or (len(step) == 1 and world_size() == 1):
            return
        read = ((b, module.sampled_tokens(b, module._states(module.model, b))) for b in step)
        own = torch.cat([_entropies(tokens, batch) for batch, tokens in read])
        marked = torch.stack([own.nan_to_num(0), (~own.isnan()).to(own.dtype)], dim=1)
        rows, _ = gathered_rows(marked, step.totals.rank_tokens)
        self._found = self._of(rows[:, 0].masked_fill(rows[:, 1] == 0, torch.nan))

    def mark(self, tokens: SampledTokens, batch: CandidateBatch) -> tuple[SampledTokens, Tensor]:
        """Return the tokens of a batch with those of the highest entropy marked, and how many the step has."""
        own = _entropies(tokens, batch)
        found = self._found or self._of(own)
        return tokens._replace(high_entropy=(own >= found.threshold).to(own.dtype)), found.number

    def _of(self, entropies: Float[Tensor, " token"]) -> HighTokens:
        threshold = entropies.nanquantile(1 - self.share)
        return HighTokens(threshold, (entropies >= threshold).sum().clamp(min=1))


def _entropies(tokens: SampledTokens, batch: CandidateBatch) -> Float[Tensor, " token"]:
    """Return the entropy of every token whose loss counts, NaN of the others."""
    counts = tokens.on_tokens(batch.candidate_weights()) * tokens.counted
    return tokens.entropies.detach().float().masked_fill(counts == 0, torch.nan)
