"""What preference methods log, by the field's names."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from align.objectives.pointwise import PointwiseContext
from align.records import PairScores, PointScores


def pair_metrics(
    rewards: Float[Tensor, "group 2"], policy: PairScores, reference: PairScores | None
) -> dict[str, Tensor]:
    """Return the metrics of each pair; without a reference there is no divergence from it."""
    chosen, rejected = rewards[:, 0], rewards[:, 1]
    metrics = {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": (chosen > rejected).double(),
        "logps/chosen": policy.chosen,
        "logps/rejected": policy.rejected,
        "length/chosen": policy.chosen_lengths,
        "length/rejected": policy.rejected_lengths,
    }
    return metrics if reference is None else {**metrics, "kl": policy.chosen - reference.chosen}


def point_metrics(
    rewards: Float[Tensor, " candidate"], policy: PointScores, context: PointwiseContext, *, labelled: bool
) -> dict[str, Tensor]:
    """Return the metrics of each response, NaN where one does not apply.

    `labelled` says that labels are 1 (chosen) and 0 (rejected).
    """
    values = {"rewards": rewards, "logps": policy.logprobs, "length": policy.lengths.to(rewards.dtype)}
    metrics = dict(values)
    if labelled:
        sides = {"chosen": policy.labels == 1, "rejected": policy.labels == 0}
        metrics = {f"{n}/{side}": v.where(own, torch.nan) for n, v in values.items() for side, own in sides.items()}
    names = {"kl": context.mismatched_kl, "reward_shift": context.reward_shift, "values": context.values}
    extra = {**names, "forward_kl": context.forward_kl}
    return metrics | {name: value.expand_as(rewards) for name, value in extra.items() if value is not None}
