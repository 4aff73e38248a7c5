"""One direction per layer from many difference vectors."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Kind = Literal["mean", "pca"]
KINDS: tuple[Kind, ...] = ("mean", "pca")


class ReadingVectors(NamedTuple):
    """A direction per layer, not normalised, by how it was found."""

    mean: Float[Tensor, "layer hidden"]
    """Mean of the differences."""
    pca: Float[Tensor, "layer hidden"]
    """First principal component of the differences, as long as the mean and pointing its way."""
    consistency: Float[Tensor, " layer"]
    """Squared norm of the mean over the mean squared norm: 1 where one direction says it all."""
    explained: Float[Tensor, " layer"]
    """Share of the differences' energy along the principal component."""


def reading_vectors(differences: Float[Tensor, "example layer hidden"]) -> ReadingVectors:
    """Return mean and principal directions.

    Zou et al. 2023 (arXiv:2310.01405, section 3.1.2) shuffle the order within pairs and centre before PCA; centring
    differences that all point one way would remove the mean itself and find the second effect. Leaving the differences
    uncentred is the limit of that shuffle over many pairs: a sign flipped at random has mean zero.
    """
    values = differences.float()
    mean = values.mean(0)
    energy = values.pow(2).sum(-1).mean(0).clamp_min(1e-30)
    components, explained = [], []
    for layer in range(values.shape[1]):
        _, singular, rows = torch.linalg.svd(values[:, layer], full_matrices=False)
        sign = 1.0 if rows[0] @ mean[layer] >= 0 else -1.0
        components.append(sign * rows[0] * mean[layer].norm())
        explained.append(singular[0] ** 2 / singular.pow(2).sum().clamp_min(1e-30))
    return ReadingVectors(mean, torch.stack(components), mean.pow(2).sum(-1) / energy, torch.stack(explained))
