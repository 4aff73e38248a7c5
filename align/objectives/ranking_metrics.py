"""How a policy ranks candidate lists, for the logs: one value per list, NaN where a list has none."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from align.records import ListScores

TIED = 1e-6


@torch.no_grad()
def ranking_metrics(
    policy: ListScores, rewards: Float[Tensor, "group candidate"]
) -> dict[str, Float[Tensor, " group"]]:
    """Return agreement of the policy's implicit rewards with the order of the data, and facts about the data's rewards.

    `rewards/*` are the implicit ones, `rm/*` the data's. The chosen response is the first. Kendall's tau is over the
    strictly ordered pairs: the share in order less the share in reverse.
    """
    rest = policy.mask.clone()
    rest[:, 0] = False
    count = rest.sum(1)
    several = count > 0
    better = policy.better()
    signs = (rewards[:, :, None] - rewards[:, None, :]).sign().where(better, 0)
    gaps, pairs = _gaps(policy)
    all_graded = policy.graded
    known = all_graded & several
    graded = policy.scores.where(all_graded[:, None] & policy.mask, 0)
    best_other = rewards.where(rest, -math.inf).amax(1)
    rejected = (rewards * rest).sum(1) / count.clamp(min=1)
    other = (graded * rest).sum(1) / count.clamp(min=1)
    in_pairs = pairs.sum((1, 2)).clamp(min=1)
    found = {
        "rewards/chosen": (rewards[:, 0], policy.mask[:, 0]),
        "rewards/rejected": (rejected, several),
        "rewards/margins": (rewards[:, 0] - rejected, several),
        "rewards/accuracies": ((rewards[:, 0] > best_other).to(rewards.dtype), several),
        "pro/kendall_tau": (signs.sum((1, 2)) / better.sum((1, 2)).clamp(min=1), better.any(2).any(1)),
        "pro/frac_tied": ((gaps.abs() <= TIED).logical_and(pairs).sum((1, 2)) / in_pairs, known),
        "pro/gap_mean": (gaps.where(pairs, 0).sum((1, 2)) / in_pairs, known),
        "pro/gap_max": (gaps.where(pairs, -math.inf).amax((1, 2)), known),
        "pro/frac_no_reward": ((~all_graded).to(rewards.dtype), policy.mask[:, 0]),
        "rm/chosen": (graded[:, 0], all_graded),
        "rm/margin": (graded[:, 0] - other, known),
    }
    values, valid = (torch.stack(rows) for rows in zip(*found.values(), strict=True))
    return dict(zip(found, values.where(valid, math.nan).unbind(), strict=True))


def _gaps(policy: ListScores) -> tuple[Tensor, Tensor]:
    """Return differences r_k - r_i of the data's rewards, and which of them are of a pair with k before i."""
    place = torch.arange(policy.mask.shape[1], device=policy.mask.device)
    pairs = (place[:, None] < place[None, :]) & policy.mask[:, :, None] & policy.mask[:, None, :]
    scores = policy.scores.nan_to_num(0.0)
    return scores[:, :, None] - scores[:, None, :], pairs
