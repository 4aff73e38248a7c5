"""Models that are built for their sizes alone."""

from __future__ import annotations

import torch


def sizes_only() -> bool:
    """Tell whether models are built on torch's meta device, where no weight has a value and none is read."""
    return torch.get_default_device().type == "meta"
