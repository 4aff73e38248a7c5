"""A frozen layer whose weights take 16 bits and lose nothing by it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ShortLinear(nn.Linear):
    """A frozen linear layer held in bfloat16 that gives what it would give in float32: outside autocast too."""

    def forward(self, input: Tensor) -> Tensor:  # as torch names it
        """Return the layer's output, computed in the dtype of autocast or else of the input."""
        if torch.is_autocast_enabled(input.device.type):
            return F.linear(input, self.weight, self.bias)
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(input, self.weight.to(input.dtype), bias)
