"""List losses with loops over one list, written from the papers and from descriptions of their released code."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def pro(scores: Sequence[float], rewards: Sequence[float], *, dynamic: bool = True, mask_ties: bool = False) -> float:
    """PRO's ranking loss of one list in order (arXiv:2306.17492, Eqs. 9 to 11), term by term."""
    total = 0.0
    for k in range(len(scores) - 1):
        later = [i for i in range(k + 1, len(scores)) if not (mask_ties and rewards[k] == rewards[i])]
        if not later:
            continue
        tau = {i: rewards[k] - rewards[i] if dynamic else 1.0 for i in later}
        own = max(tau.values())
        denominator = math.exp(own * scores[k]) + sum(math.exp(tau[i] * scores[i]) for i in later)
        total -= math.log(math.exp(own * scores[k]) / denominator)
    return total


def released_pro(token_logprobs: list[list[Tensor]], rewards: Tensor, sft_weight: float) -> Tensor:
    """The published training loss of a batch: `token_logprobs[record][candidate]` are those of the scored tokens.

    Every step k is averaged over the batch on its own; `sft_index` is 0; nothing is divided by a temperature.
    """
    records, stage = len(token_logprobs), rewards.shape[1]
    sums = torch.stack([torch.stack([tokens.sum() for tokens in row]) for row in token_logprobs])
    counts = torch.tensor([[len(tokens) for tokens in row] for row in token_logprobs])
    means = sums / counts
    total = torch.zeros((), dtype=sums.dtype)
    for time in range(stage - 1):
        temperatures = rewards[:, time].view(-1, 1) - rewards[:, time + 1 :]
        own = torch.max(temperatures, dim=1).values
        positive = means[:, time] * own
        negatives = torch.sum(torch.exp(means[:, time + 1 :] * temperatures), dim=1)
        total = total + torch.mean(torch.log(1e-10 + torch.exp(positive) + negatives) - positive)
    sft = torch.mean(-torch.gather(sums, 1, torch.zeros(records, 1, dtype=torch.long)).view(-1))
    return total + sft_weight * (stage - 1) ** 2 * sft


def rrhf(scores: Sequence[float], rewards: Sequence[float]) -> float:
    """RRHF's ranking loss (arXiv:2304.05302): the sum over r_i < r_j of max(0, p_i - p_j)."""
    pairs = [(i, j) for i in range(len(scores)) for j in range(len(scores)) if rewards[i] < rewards[j]]
    return sum(max(0.0, scores[i] - scores[j]) for i, j in pairs)


def lipo(scores: Sequence[float], gains: Sequence[float]) -> float:
    """LiPO-lambda (arXiv:2402.01878) of one list; ranks by score start at 1."""
    place = {i: n + 1 for n, i in enumerate(sorted(range(len(scores)), key=lambda i: -scores[i]))}
    total = 0.0
    for i in range(len(scores)):
        for j in range(len(scores)):
            if gains[i] > gains[j]:
                discount = abs(1 / math.log(1 + place[i]) - 1 / math.log(1 + place[j]))
                weight = abs(2 ** gains[i] - 2 ** gains[j]) * discount
                total += weight * math.log1p(math.exp(-(scores[i] - scores[j])))
    return total


def plackett_luce(scores: Sequence[float]) -> float:
    """Negative log-probability of drawing a list in the given order without replacement."""
    return -sum(math.log(math.exp(scores[k]) / sum(math.exp(s) for s in scores[k:])) for k in range(len(scores)))


def cross_entropy(scores: Sequence[float], target: Sequence[float]) -> float:
    """Cross-entropy of a target distribution and the softmax of the scores."""
    total = sum(math.exp(s) for s in scores)
    return -sum(t * math.log(math.exp(s) / total) for s, t in zip(scores, target, strict=True))


def set_contrast(scores: Sequence[float], rewards: Sequence[float], alpha: float) -> float:
    """Set-level contrast (arXiv:2412.04628): members above the mean reward against all, weighted by deviation."""
    mean = sum(rewards) / len(rewards)
    terms = [math.exp(alpha * abs(r - mean)) * math.exp(s) for s, r in zip(scores, rewards, strict=True)]
    above = sum(t for t, r in zip(terms, rewards, strict=True) if r > mean)
    return -math.log(above / sum(terms))
