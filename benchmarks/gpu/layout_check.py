"""Losses and gradients of every layout against padded rows, on a small shape where it runs."""

from __future__ import annotations

import contextlib
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from align.modules.dpo import DPOModule
from align.records import CandidateBatch
from align.scoring.layouts import LAYOUTS
from benchmarks.gpu.known_lengths import groups_of, lengths_of
from benchmarks.gpu.shapes import CHECKED
from benchmarks.gpu.training import built, quiet

BOUNDS = {"float32": 1e-4, "bf16": 2e-2}
"""How far losses and gradient norms of two layouts may lie apart, relatively."""

START = {"float32": 1e-6, "bf16": 1e-3}
"""How far the start loss may lie from ln 2: a head without gradients may add up in another order."""


def compare(device: str, precision: str, *, tiny: bool) -> dict[str, Any]:
    """Return the start loss and how far each layout lies from padded rows. Raises ArithmeticError beyond the bounds."""
    shape = CHECKED.tiny() if tiny else CHECKED
    lengths = lengths_of("hh", shrink=16 if tiny else 1)[::16]
    batch = on(device, CandidateBatch.of(groups_of(lengths, shape.sizes["vocab_size"])))
    with tempfile.TemporaryDirectory() as folder, quiet():
        module = built(DPOModule, shape, Path(folder), device)
        start = loss_and_norm(module, batch, "padded", precision)[0]
        if abs(start - math.log(2)) > START[precision]:
            raise ArithmeticError(f"DPO starts at {start:.8f}, not at ln 2")
        disturb(module.model)
        found = {layout: loss_and_norm(module, batch, layout, precision) for layout in LAYOUTS}
    padded = found.pop("padded")
    differences = {f"{name} {what}": off for name in found for what, off in apart(found[name], padded).items()}
    if worst := [name for name, off in differences.items() if not off <= BOUNDS[precision]]:
        raise ArithmeticError(f"{', '.join(worst)} beyond {BOUNDS[precision]}: {differences}")
    return {"start_loss": start, "loss": padded[0], "bound": BOUNDS[precision], **differences}


def apart(own: tuple[float, float], padded: tuple[float, float]) -> dict[str, float]:
    """Return the relative differences of losses and of gradient norms."""
    names = ("loss", "gradient")
    return {name: abs(a - b) / abs(b) for name, a, b in zip(names, own, padded, strict=True)}


def loss_and_norm(module: Any, batch: CandidateBatch, layout: str, precision: str) -> tuple[float, float]:
    """Return a batch's loss and the norm of its gradient."""
    module.backbone = replace(module.backbone, layout=layout)
    module.zero_grad()
    device = batch.response_ids.device.type
    with torch.autocast(device, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext():
        loss = module.loss(batch, batch.totals)
    loss.backward()
    gradients = [p.grad for p in module.model.parameters() if p.grad is not None]
    return float(loss), float(torch.nn.utils.get_total_norm(gradients))


@torch.no_grad()
def disturb(model: torch.nn.Module) -> None:
    """Move the weights away from the reference."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.02)


def on(device: str, batch: CandidateBatch) -> CandidateBatch:
    """Return the batch on a device, as Lightning moves it."""
    from lightning.fabric.utilities.apply_func import move_data_to_device

    moved: CandidateBatch = move_data_to_device(batch, torch.device(device))
    return moved
