"""What is logged of representation alignment, per layer: how large the target is, and how much of it is reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from align.distributed import sum_over_ranks

SAME = 1e-5
"""|v|/|h| below which a difference is rounding, in float32 too."""
NOISE_RATIO = 0.02
"""Below this |v| / |h|, differences of bfloat16 states are an eighth rounding, and more."""
SHIFT_LIMIT = 0.25
"""Above this alpha |v| / |h| the target is no state the model knows: in the synthetic world grammar broke first."""
IGNORED = 1e-3
"""A token with |v| / |h| below this did not react to the difference at all."""
BINS = 8


class Alignment(NamedTuple):
    """One batch, all states in float32."""

    delta: Float[Tensor, "layer token hidden"]
    """How far the policy has moved, without gradient."""
    base: Float[Tensor, "layer token hidden"]
    vector: Float[Tensor, "layer token hidden"]
    """The difference as the target uses it: scaled and clipped."""
    errors: Float[Tensor, "layer token"]
    weights: Float[Tensor, " token"]
    """Weight of the example; 0 where a token does not count."""
    prompt_weights: Float[Tensor, " token"]
    """The same for last prompt tokens, whether they count or not."""
    places: Int[Tensor, " token"]
    """Position in the response; the last prompt token has 0, as the first of the response."""


class LayerErrorProfile:
    """Distance to the target by layer and position in the response, as a share of alpha |v|: for the heat map."""

    def __init__(self) -> None:
        self.sums: Tensor | None = None

    @torch.no_grad()
    def add(self, found: Alignment, alpha: float) -> None:
        """Add the distances to the target, and the distances there were to go; the last bin takes all later tokens."""
        left = (found.delta - alpha * found.vector).norm(dim=-1) * found.weights
        whole = abs(alpha) * found.vector.norm(dim=-1) * found.weights
        rows = torch.zeros(2, len(left), BINS, dtype=torch.float64, device=left.device)
        columns = found.places.clamp_max(BINS - 1).expand(2, len(left), -1)
        rows.scatter_add_(2, columns, torch.stack([left, whole]).double())
        self.sums = rows if self.sums is None else self.sums + rows

    def read(self) -> Tensor | None:
        """Return the share that is left by layer and position bin, and start again; None where nothing was added.

        It is of all processes, which have added as often and read together.
        """
        if self.sums is None:
            return None
        (left, whole), self.sums = sum_over_ranks(self.sums).cpu(), None
        shares: Tensor = left / whole.clamp_min(1e-12)
        return shares


@torch.no_grad()
def alignment_metrics(
    found: Alignment, layers: Sequence[int], alpha: float
) -> Iterator[tuple[str, Tensor, Tensor | float]]:
    """Yield sizes, cosine, projection and explained variance of every layer: names, values, weights."""
    here = found.weights
    sizes, widths, moved = found.vector.norm(dim=-1), found.base.norm(dim=-1), found.delta.norm(dim=-1)
    # layer by layer, so that what is as wide as a state is there for one of them at a time
    pairs = list(zip(found.delta, found.vector, strict=True))
    along = torch.stack([(delta * vector).sum(-1) for delta, vector in pairs])
    missed = torch.stack([(delta - alpha * vector).pow(2).sum(-1) for delta, vector in pairs])
    energy = sizes.pow(2)
    ratio = sizes / widths.clamp_min(1e-12)
    shift = abs(alpha) * ratio
    left = missed / (alpha**2 * energy).clamp_min(1e-12)
    same, weight = here.expand_as(sizes), here * energy
    tables = {
        "v_norm": (sizes, same),
        "h_norm": (widths, same),
        "shift": (shift, same),
        "shift_last_prompt_token": (shift, found.prompt_weights.expand_as(sizes)),
        "ignored": ((ratio < IGNORED).to(ratio.dtype), same),
        "cosine": (along / (moved * sizes).clamp_min(1e-12), here * ((energy > 0) & (moved > 0))),
        "rho": (along / energy.clamp_min(1e-12), weight),
        "fve": (1 - left, weight),
        "error": (found.errors, same),
    }
    for name, (values, weights) in tables.items():
        for layer, value, own in zip(layers, values.unbind(), weights.unbind(), strict=True):
            yield f"layer_{layer:02d}/{name}", value, own
    yield "states_not_finite", ~found.errors.isfinite(), 1.0
    yield "shift", shift.mean(0), here


def layer_warnings(found: Alignment, layers: Sequence[int], alpha: float, *, low: bool) -> Iterator[str]:
    """Yield what is wrong with layers whose differences are 0 or drown in rounding, or whose target lies too far out.

    `low` says that states have 16 bits.
    """
    total = found.weights.sum().clamp_min(1e-12)
    for row, layer in enumerate(layers):
        ratios = found.vector[row].norm(dim=-1) / found.base[row].norm(dim=-1).clamp_min(1e-12)
        ratio = float((ratios * found.weights).sum() / total)
        if ratio < SAME:
            yield (
                f"layer {layer}: good and bad states are the same, so that nothing is learnt there: its tokens do not "
                "see what differs (convolutions look back a few tokens): set reading.target_layers to higher ones"
            )
        elif low and ratio < NOISE_RATIO:
            yield (
                f"layer {layer}: |v|/|h| is {ratio:.3f}, rounding is about {min(0.24 / max(ratio, 1e-9), 100):.0f} % "
                "of v: use float32, or check that the model reacts to the difference"
            )
        if abs(alpha) * ratio > SHIFT_LIMIT:
            yield (
                f"layer {layer}: alpha |v|/|h| is {abs(alpha) * ratio:.2f}, above {SHIFT_LIMIT}: the "
                "target is far from any state the model knows; lower objective.alpha or set objective.clip_v_relative"
            )
