"""No anchor, and several: references that objectives without one, or with more than one, are given."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.reference import Reference, Scorer, default_reference
from align.records import CandidateBatch, ResponseScores


@dataclass(frozen=True)
class NoReference(Reference):
    """Log-probability 0 for every response: what reference-free objectives, and reference-free DPO, are given."""

    def score(self, policy: nn.Module, own: nn.Module | None, batch: CandidateBatch, scorer: Scorer) -> ResponseScores:
        """Return zeros."""
        device = batch.response_ids.device
        lengths = torch.tensor(batch.response_lengths, device=device)
        return ResponseScores(torch.zeros(len(lengths), device=device), lengths)


@dataclass(frozen=True)
class MixtureTerm:
    """One policy of a mixture."""

    reference: Reference | None
    """Where its log-probabilities come from; null takes the policy's start."""
    weight: float
    """Its share."""


@dataclass(frozen=True)
class ReferenceMixture(Reference):
    """Several anchors at once: their log-probabilities added up by weight (a geometric mixture).

    INPO (Zhang et al. 2024, arXiv:2407.00617) anchors at the start with weight tau/eta and at the previous round's
    policy with 1 - tau/eta; MNPO (arXiv:2509.23102) at several previous ones.
    """

    anchors: Sequence[MixtureTerm]
    """The policies and their shares, which add up to 1."""

    def __post_init__(self) -> None:
        total = sum(anchor.weight for anchor in self.anchors)
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"the weights of reference.anchors must add up to 1, got {total:g}")

    def build(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module:
        """Build every anchor's own model."""
        own = [kind.build(policy, backbone, tokenizer) or nn.Identity() for kind in self._kinds(policy)]
        return nn.ModuleList(own)

    def prepare(
        self,
        policy: nn.Module,
        own: nn.Module | None,
        batches: Iterable[CandidateBatch],
        scorer: Scorer,
        *,
        moved: bool,
    ) -> None:
        """Let every anchor see all batches."""
        pairs = self._pairs(policy, own)
        for (kind, model), seen in zip(pairs, itertools.tee(batches, len(pairs)), strict=True):
            kind.prepare(policy, model, seen, scorer, moved=moved)

    def score(self, policy: nn.Module, own: nn.Module | None, batch: CandidateBatch, scorer: Scorer) -> ResponseScores:
        """Return the weighted sum of the anchors' log-probabilities."""
        scores = [kind.score(policy, model, batch, scorer) for kind, model in self._pairs(policy, own)]
        parts = [a.weight * s.logprobs for a, s in zip(self.anchors, scores, strict=True)]
        return scores[0]._replace(logprobs=torch.stack(parts).sum(0))

    @property
    def precomputed(self) -> bool:
        """Whether an anchor's values were computed before training."""
        return any(anchor.reference is not None and anchor.reference.precomputed for anchor in self.anchors)

    @property
    def is_start(self) -> bool:
        """Whether all are the policy as the run starts."""
        return all(anchor.reference is None or anchor.reference.is_start for anchor in self.anchors)

    def _kinds(self, policy: nn.Module) -> list[Reference]:
        return [anchor.reference or default_reference(policy) for anchor in self.anchors]

    def _pairs(self, policy: nn.Module, own: nn.Module | None) -> list[tuple[Reference, nn.Module | None]]:
        assert isinstance(own, nn.ModuleList)
        models = [None if isinstance(model, nn.Identity) else model for model in own]
        return list(zip(self._kinds(policy), models, strict=True))
