"""Representation alignment: the loss of RAHF and LoRRA on hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class RepresentationAlignment:
    """Moves states to `h + alpha v`, v a difference of states (Liu et al. 2023, RAHF, arXiv:2312.15997, Eq. 4).

    The paper writes a mean squared error; the released code takes the mean of the un-squared 2-norm, builds an MSE
    object and never uses it, and so does LoRRA (Zou et al. 2023, arXiv:2310.01405, algorithm 1), on which it rests. The
    default is the norm that was run: its gradient per token is bounded, so tokens with huge states do not dominate. The
    code's further term, beta times a reading vector, is always 0 and left out.
    Learning rates do not carry over between the two. The code's mean skips NaN, which hides overflow; ours keeps it.
    """

    alpha: float = 5.0
    """How far beyond the plain state: multiples of the difference. What matters is `alpha |v| / |h|`."""
    loss: Literal["l2", "mse"] = "l2"
    """Per token the distance to the target, or its mean square over the width."""
    reduction: Literal["token", "window"] = "token"
    """Divide by valid tokens, or by the whole window as the released code does, which gives short responses less."""
    normalize_v: Literal["none", "unit", "rms_h"] = "none"
    """Leave v as it is, scale it to length 1, or to the root mean square norm of the plain states of its layer."""
    clip_v_quantile: float | None = None
    """Shorten v to this quantile of its norms, by layer and batch; null leaves it. Depends on the batch."""
    clip_v_relative: float | None = None
    """Shorten v, by token, to this share of the plain state's norm; null leaves it. With it, a large alpha works."""

    def __post_init__(self) -> None:
        if self.clip_v_quantile is not None and not 0 < self.clip_v_quantile <= 1:
            raise ValueError(f"clip_v_quantile must lie in (0, 1], got {self.clip_v_quantile}")
        if self.clip_v_relative is not None and not self.clip_v_relative > 0:
            raise ValueError(f"clip_v_relative must be positive, got {self.clip_v_relative}")

    def direction(
        self, base: Float[Tensor, "layer token hidden"], difference: Float[Tensor, "layer token hidden"]
    ) -> Float[Tensor, "layer token hidden"]:
        """Return v in float32: the difference, scaled and clipped as set."""
        vector, base = _precise(difference), _precise(base)
        norms, widths = _norm(vector), _norm(base)
        if self.normalize_v != "none":
            unit = vector / norms.clamp_min(1e-12)
            size = widths.pow(2).mean(1, keepdim=True).sqrt() if self.normalize_v == "rms_h" else 1.0
            vector = unit * size
            norms = _norm(vector)
        if self.clip_v_quantile is not None and vector.shape[1]:
            limit = torch.quantile(norms, self.clip_v_quantile, dim=1, keepdim=True)
            vector = vector * (limit / norms.clamp_min(1e-12)).clamp_max(1)
            norms = _norm(vector)
        if self.clip_v_relative is not None:
            vector = vector * (self.clip_v_relative * widths / norms.clamp_min(1e-12)).clamp_max(1)
        return vector

    def target(
        self, base: Float[Tensor, "layer token hidden"], difference: Float[Tensor, "layer token hidden"]
    ) -> Float[Tensor, "layer token hidden"]:
        """Return the detached target state of every token."""
        return (_precise(base) + self.alpha * self.direction(base, difference)).detach()

    def __call__(
        self, policy: Float[Tensor, "layer token hidden"], target: Float[Tensor, "layer token hidden"]
    ) -> Float[Tensor, "layer token"]:
        """Return the error of every token at every layer; the 2-norm's gradient at 0 is 0."""
        gap = _precise(policy) - target
        return gap.pow(2).mean(-1) if self.loss == "mse" else _norm(gap)[..., 0]


def _precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _norm(values: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    return norms
