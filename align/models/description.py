"""What is said of a loaded model."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from align.models.quantised import parameters_of


def describe(model: nn.Module) -> str:
    """Return one line on size, trainable share, the dtype of each part, and mode."""
    total = sum(map(parameters_of, model.parameters()))
    trained = [p for p in model.parameters() if p.requires_grad]
    frozen = [p for p in model.parameters() if not p.requires_grad]
    count = sum(p.numel() for p in trained)
    share = f"{count:,} of {total:,} parameters trained ({100 * count / total:.1f} %)"
    parts = [f"{name} {_dtypes(part)}" for name, part in (("trained", trained), ("frozen", frozen)) if part]
    return f"{share}, {', '.join(parts)}, {'train' if model.training else 'eval'} mode"


def _dtypes(parameters: Collection[torch.Tensor]) -> str:
    return " and ".join(sorted({_dtype(p) for p in parameters}))


def _dtype(parameter: torch.Tensor) -> str:
    return "nf4" if hasattr(parameter, "quant_state") else str(parameter.dtype).removeprefix("torch.")
