"""Several references at once, for objectives with more than one anchor."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import nn

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.references.reference import Reference, Scored
from align.models.references.reference_models import default_reference
from align.records import CandidateBatch, ResponseScores


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

    def build(self, policy: nn.Module, backbone: Backbone, tokenizer: Any, scored: Scored) -> Self:
        """Build every anchor."""
        kinds = [anchor.reference or default_reference(policy) for anchor in self.anchors]
        built = [kind.build(policy, backbone, tokenizer, scored) for kind in kinds]
        anchors = [replace(anchor, reference=kind) for anchor, kind in zip(self.anchors, built, strict=True)]
        models = nn.ModuleList([kind.model or nn.Identity() for kind in built])
        return replace(self, anchors=anchors).holding(models, scored)

    def prepare(self, policy: nn.Module, batches: Iterable[CandidateBatch], *, moved: bool) -> None:
        """Let every anchor see all batches."""
        for kind, seen in zip(self._built, itertools.tee(batches, len(self.anchors)), strict=True):
            kind.prepare(policy, seen, moved=moved)

    def score(self, policy: nn.Module, batch: CandidateBatch) -> ResponseScores:
        """Return the weighted sum of the anchors' log-probabilities."""
        scores = [kind.score(policy, batch) for kind in self._built]
        parts = [a.weight * s.logprobs for a, s in zip(self.anchors, scores, strict=True)]
        return scores[0]._replace(logprobs=torch.stack(parts).sum(0))

    def check_steps(self, steps: float) -> None:
        """Ask every anchor."""
        for kind in self._built:
            kind.check_steps(steps)

    @property
    def models(self) -> list[nn.Module]:
        """Return those of every anchor."""
        return [model for kind in self._built for model in kind.models]

    def after_step(self, policy: nn.Module, step: int) -> None:
        """Move the anchors that follow the policy."""
        for kind in self._built:
            kind.after_step(policy, step)

    def moving(self, policy: nn.Module) -> list[nn.Parameter]:
        """Return the weights of all anchors that move."""
        return [weight for kind in self._built for weight in kind.moving(policy)]

    @property
    def _built(self) -> list[Reference]:
        return [anchor.reference for anchor in self.anchors if anchor.reference is not None]

    @property
    def precomputed(self) -> bool:
        """Whether an anchor's values were computed before training."""
        return any(anchor.reference is not None and anchor.reference.precomputed for anchor in self.anchors)

    @property
    def is_start(self) -> bool:
        """Whether all are the policy as the run starts."""
        return all(anchor.reference is None or anchor.reference.is_start for anchor in self.anchors)
