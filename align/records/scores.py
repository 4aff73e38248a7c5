"""Log-probabilities of responses as objectives see them: by candidate, by pair, by list, by single response."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from align.records.batch import CandidateBatch


class ResponseScores(NamedTuple):
    """Log-probabilities of whole responses, in nats, one per candidate of a batch."""

    logprobs: Float[Tensor, " candidate"]
    """Sum over the scored tokens, EOS included."""
    lengths: Int[Tensor, " candidate"]
    """Number of scored tokens, at least 1."""
    collisions: Float[Tensor, " candidate"] | None = None
    """Sum over the scored tokens of log sum_v p(v)^2, without gradient; only where a weighting asks for it."""

    @property
    def means(self) -> Float[Tensor, " candidate"]:
        """Return the mean log-probability of a token."""
        return self.logprobs / self.lengths


class PairScores(NamedTuple):
    """The first two candidates of every group, as the pairwise objectives see them."""

    chosen: Float[Tensor, " group"]
    rejected: Float[Tensor, " group"]
    chosen_lengths: Int[Tensor, " group"]
    rejected_lengths: Int[Tensor, " group"]

    @classmethod
    def of(cls, scores: ResponseScores, batch: CandidateBatch) -> PairScores:
        """Pick columns 0 and 1 of the candidate matrix; every group must hold exactly two candidates."""
        if any(size != 2 for size in batch.group_sizes):
            raise ValueError(f"a pairwise objective needs groups of 2 candidates, got sizes {set(batch.group_sizes)}")
        logprobs, lengths = scores.logprobs.view(-1, 2), scores.lengths.view(-1, 2)
        return cls(logprobs[:, 0], logprobs[:, 1], lengths[:, 0], lengths[:, 1])


class ListScores(NamedTuple):
    """Candidate groups as matrices with what is known about their order, as the ranking and set objectives see them.

    Candidates stand best first. Cells without a candidate hold log-probability 0, length 1, rank 0 and a NaN score.
    """

    logprobs: Float[Tensor, "group candidate"]
    lengths: Int[Tensor, "group candidate"]
    mask: Bool[Tensor, "group candidate"]
    """True where there is a candidate."""
    ranks: Int[Tensor, "group candidate"]
    """0 is best; equal ranks are ties."""
    scores: Float[Tensor, "group candidate"]
    """A graded label (a reward) per candidate, NaN where there is none."""

    @classmethod
    def of(cls, scores: ResponseScores, batch: CandidateBatch, labels: Float[Tensor, " candidate"]) -> ListScores:
        """Put scores and labels of candidates into matrices."""
        return cls(
            batch.matrix(scores.logprobs),
            batch.matrix(scores.lengths, 1),
            batch.mask(scores.logprobs.device),
            batch.matrix(batch.ranks),
            batch.matrix(labels, float("nan")),
        )

    def widened(self, candidates: int) -> ListScores:
        """Return the matrices with so many columns, or as many as they have."""
        more, empty = max(candidates - self.mask.shape[1], 0), (0.0, 1, False, 0, float("nan"))
        pairs = zip(self, empty, strict=True)
        return ListScores(*(F.pad(values, (0, more), value=fill) for values, fill in pairs)) if more else self

    @property
    def means(self) -> Float[Tensor, "group candidate"]:
        """Return the mean log-probability of a token, 0 where there is no candidate."""
        return self.logprobs / self.lengths

    @property
    def graded(self) -> Bool[Tensor, " group"]:
        """Return which groups have a score for every candidate."""
        return ~(self.scores.isnan() & self.mask).any(1)

    def better(self) -> Bool[Tensor, "group candidate candidate"]:
        """Return which pairs (i, j) are strictly ordered, i better than j by rank."""
        strictly = self.ranks[:, :, None] < self.ranks[:, None, :]
        return strictly & self.mask[:, :, None] & self.mask[:, None, :]


class PointScores(NamedTuple):
    """Single responses with a label each, as the pointwise objectives see them."""

    logprobs: Float[Tensor, " candidate"]
    lengths: Int[Tensor, " candidate"]
    labels: Float[Tensor, " candidate"]
    """1 desirable, 0 undesirable, or a graded score; NaN where there is none."""

    @classmethod
    def of(cls, scores: ResponseScores, batch: CandidateBatch, labels: Float[Tensor, " candidate"]) -> PointScores:
        """Put scores and labels together; every group must hold exactly one candidate."""
        if any(size != 1 for size in batch.group_sizes):
            raise ValueError(f"a pointwise objective needs groups of 1 candidate, got sizes {set(batch.group_sizes)}")
        return cls(scores.logprobs, scores.lengths, labels)
