"""The policy of the previous round as reference: what SPPO's step is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from align.models.reference import FrozenCopy


@dataclass(frozen=True)
class PreviousRound(FrozenCopy):
    """A second model that takes the policy's weights when a round of `IterativeResampling` begins.

    In the first round, and in a run without rounds, it is the policy as the run starts.
    """

    path: None = field(default=None, init=False)

    @torch.no_grad()
    def follow(self, own: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Give the copy the policy's trained weights, by their names in the policy."""
        for name, values in weights.items():
            own.get_parameter(name).copy_(values)
