"""Outputs of a reward head, read at the last token of each response."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from align.records import CandidateBatch
from align.scoring.decoder import unwrapped
from align.scoring.responses import last_hidden


def reward_head(model: nn.Module, hidden: Float[Tensor, "candidate hidden"]) -> Float[Tensor, "candidate attribute"]:
    """Return the outputs of the head, in float32 whatever the precision of the run (float64 for a float64 model)."""
    weight = unwrapped(model).score.weight
    wide = torch.promote_types(weight.dtype, torch.float32)
    with torch.autocast(hidden.device.type, enabled=False):
        return F.linear(hidden.to(wide), weight.to(wide))


def reward_outputs(
    model: nn.Module, batch: CandidateBatch, *, layout: str = "auto"
) -> Float[Tensor, "candidate attribute"]:
    """Return the outputs of a reward model for every candidate."""
    return reward_head(model, last_hidden(model, batch, layout=layout))
