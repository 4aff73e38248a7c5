"""Attributes that are weighted means of others, such as DPA's helpfulness."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError
from align.rewards.derived_scorer import DerivedScorer
from align.rewards.scorers import Scorer


class WeightedAttributes(DerivedScorer):
    """Attributes made of another scorer's: each the weighted mean of some of them.

    DPA (Wang et al. 2024, arXiv:2402.18571, section 4.1) calls helpfulness the mean of four of its reward model's
    outputs: instruction following, truthfulness, honesty and helpfulness. What is made here has a name that directions,
    ratings in prompts and training rewards go by.
    """

    def __init__(self, scorer: Scorer, attributes: dict[str, dict[str, float]]) -> None:
        """Name the attributes.

        Args:
            scorer: Gives the scores.
            attributes: By the name of each new attribute, in the order wanted, the weight of every score it is the mean
                of; `{verbosity: {hs-verbosity: 1}}` gives one score another name.
        """
        if not attributes:
            raise ConfigError("weighted.attributes names none: expected {helpfulness: {uf-helpfulness: 1, ...}, ...}")
        for name, weights in attributes.items():
            if not weights or any(not (math.isfinite(weight) and weight > 0) for weight in weights.values()):
                raise ConfigError(
                    f"weighted.attributes.{name}: expected a positive weight for each score, got {weights}"
                )
        super().__init__(scorer)
        self.weights = attributes
        self.attributes = tuple(attributes)

    @cached_property
    def columns(self) -> list[list[int]]:
        """Return the places of the scores each attribute is made of. Raises ConfigError for one that does not exist."""
        known = self.scorer.attributes
        for name, weights in self.weights.items():
            if unknown := [other for other in weights if other not in known]:
                raise ConfigError(f"weighted.attributes.{name} names {unknown[0]!r}, the scorer has {', '.join(known)}")
        return [[known.index(other) for other in weights] for weights in self.weights.values()]

    def known_by(self, scorer: str) -> str:
        """Return a hash of the scorer and the weights, which are checked: rounds ask for it before they sample."""
        text = repr((type(self.scorer).__name__, scorer, self.weights, self.columns))
        return f"weighted {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def derived(
        self, scores: Float[Tensor, "response score"], owners: Sequence[Hashable]
    ) -> Float[Tensor, "response attribute"]:
        """Return the means, NaN where one of the scores is missing."""
        shares = [scores.new_tensor(list(w.values())) / sum(w.values()) for w in self.weights.values()]
        return torch.stack([scores[:, p] @ share for p, share in zip(self.columns, shares, strict=True)], dim=1)
