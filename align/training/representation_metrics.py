"""What is logged of representation alignment, per layer: how large the target is, and how much of it is reached."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from align.models.adapters import adapters_active, evaluating
from align.records import CandidateBatch
from align.scoring.distributions import reference_states, token_statistics
from align.training.representation_step import Alignment, RepresentationModule

NOISE_RATIO = 0.02
"""Below this |v| / |h|, differences of bfloat16 states are an eighth rounding, and more."""
SHIFT_LIMIT = 0.25
"""Above this alpha |v| / |h| the target is no state the model knows: in the synthetic world grammar broke first."""
IGNORED = 1e-3
"""A token with |v| / |h| below this did not react to the difference at all."""
BINS = 8


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
        self.sums = rows.cpu() if self.sums is None else self.sums + rows.cpu()

    def read(self) -> Tensor | None:
        """Return the share that is left by layer and position bin, and start again; None where nothing was added."""
        if self.sums is None:
            return None
        (left, whole), self.sums = self.sums, None
        shares: Tensor = left / whole.clamp_min(1e-12)
        return shares


@torch.no_grad()
def record_alignment(module: RepresentationModule, found: Alignment) -> None:
    """Record sizes, cosine, projection and explained variance of every layer."""
    alpha = module.objective.alpha
    for row, layer in enumerate(module.layers):
        delta, base, vector = found.delta[row], found.base[row], found.vector[row]
        sizes, widths = vector.norm(dim=-1), base.norm(dim=-1)
        energy = sizes.pow(2)
        here = found.weights
        name = f"layer_{layer:02d}"
        ratio = sizes / widths.clamp_min(1e-12)
        module.record(f"{name}/v_norm", sizes, here)
        module.record(f"{name}/h_norm", widths, here)
        module.record(f"{name}/shift", abs(alpha) * ratio, here)
        module.record(f"{name}/shift_last_prompt_token", abs(alpha) * ratio, found.prompt_weights)
        module.record(f"{name}/ignored", (ratio < IGNORED).double(), here)
        moved = delta.norm(dim=-1)
        known = (energy > 0) & (moved > 0)
        cosine = (delta * vector).sum(-1) / (moved * sizes).clamp_min(1e-12)
        module.record(f"{name}/cosine", cosine, here * known)
        module.record(f"{name}/rho", (delta * vector).sum(-1) / energy.clamp_min(1e-12), here * energy)
        left = (delta - alpha * vector).pow(2).sum(-1) / (alpha**2 * energy).clamp_min(1e-12)
        module.record(f"{name}/fve", 1 - left, here * energy)
        mean = (vector * here[:, None]).sum(0) / here.sum().clamp_min(1e-12)
        spread = (energy * here).sum() / here.sum().clamp_min(1e-12)
        module.record(f"{name}/consistency", mean.pow(2).sum() / spread.clamp_min(1e-12), here.sum())
        module.record(f"{name}/error", found.errors[row], here)
    module.record("states_not_finite", (~found.errors.isfinite()).double())
    ratios = abs(alpha) * (found.vector.norm(dim=-1) / found.base.norm(dim=-1).clamp_min(1e-12))
    module.record("shift", ratios.mean(0), found.weights)


@torch.no_grad()
def record_divergence(module: Any, batch: CandidateBatch) -> None:
    """Record, when it is time, the exact divergence from the start to the policy at every response token."""
    every = module.reading.log_kl_every_n_steps
    if not every or (module._phase == "train" and module.global_step % every):
        return
    plain, layout = module.plain(batch), module.backbone.layout
    with evaluating(module.model):
        with adapters_active(module.model, module.start):
            reference = reference_states(module.model, plain, layout)
        options = {"layout": layout, "logit_bytes": module.backbone.logit_bytes}
        found = token_statistics(module.model, plain, reference=reference, **options)
    weights = batch.candidate_weights().repeat_interleave(found.counts.to(batch.weights.device))
    module.record("kl", found.divergences, weights)


def warn_once(module: Any, found: Alignment) -> None:
    """Warn, at the first batch, of layers whose differences drown in rounding or whose target lies too far out."""
    low = module.backbone.dtype in ("bfloat16", "float16")
    total = found.weights.sum().clamp_min(1e-12)
    for row, layer in enumerate(module.layers):
        ratios = found.vector[row].norm(dim=-1) / found.base[row].norm(dim=-1).clamp_min(1e-12)
        ratio = float((ratios * found.weights).sum() / total)
        if low and ratio < NOISE_RATIO:
            warnings.warn(
                f"layer {layer}: |v|/|h| is {ratio:.3f}, rounding is about {min(0.24 / max(ratio, 1e-9), 100):.0f} % "
                "of v: use float32, or check that the model reacts to the difference",
                stacklevel=2,
            )
        if abs(module.objective.alpha) * ratio > SHIFT_LIMIT:
            warnings.warn(
                f"layer {layer}: alpha |v|/|h| is {abs(module.objective.alpha) * ratio:.2f}, above {SHIFT_LIMIT}: the "
                "target is far from any state the model knows; lower objective.alpha or set objective.clip_v_relative",
                stacklevel=2,
            )
