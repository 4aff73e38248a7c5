"""Preference losses on plain numbers, one pair or one response at a time, written from the papers and not from our code."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Pair(NamedTuple):
    """Log-probabilities of chosen and rejected under policy and reference, and their lengths."""

    w: float
    l: float  # noqa: E741
    ref_w: float
    ref_l: float
    len_w: int
    len_l: int


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def margin(p: Pair, beta: float) -> float:
    return beta * ((p.w - p.ref_w) - (p.l - p.ref_l))


def flipped(x: float, noise: float) -> float:
    return (1 - noise) * softplus(-x) + noise * softplus(x)


def dpo_norm(p: Pair, beta: float, noise: float) -> float:
    return flipped(beta * ((p.w - p.ref_w) / p.len_w - (p.l - p.ref_l) / p.len_l), noise)


def robust(p: Pair, beta: float, noise: float) -> float:
    x = margin(p, beta)
    return ((1 - noise) * softplus(-x) - noise * softplus(x)) / (1 - 2 * noise)


def exo(p: Pair, beta: float, noise: float) -> float:
    choice = sigmoid(margin(p, beta))
    target = (1 - noise, noise)
    return sum(q * math.log(q / t) for q, t in zip((choice, 1 - choice), target, strict=True))


def discopop(p: Pair, beta: float, tau: float) -> float:
    x = margin(p, beta)
    share = sigmoid(x / tau)
    return (1 - share) * softplus(-x) + share * math.exp(-x)


def vpo(p: Pair, beta: float, noise: float, alpha: float) -> float:
    return flipped(margin(p, beta), noise) - alpha * beta * (p.w - p.ref_w)


def nca(p: Pair, beta: float) -> float:
    w, l = beta * (p.w - p.ref_w), beta * (p.l - p.ref_l)  # noqa: E741
    return -math.log(sigmoid(w)) - 0.5 * math.log(1 - sigmoid(w)) - 0.5 * math.log(1 - sigmoid(l))


def bco_pair(p: Pair, beta: float) -> float:
    return -math.log(sigmoid(beta * (p.w - p.ref_w))) - math.log(1 - sigmoid(beta * (p.l - p.ref_l)))


def sppo_hard(p: Pair, beta: float) -> float:
    return (p.w - p.ref_w - 1 / (2 * beta)) ** 2 + (p.l - p.ref_l + 1 / (2 * beta)) ** 2


def apo_zero(p: Pair, beta: float) -> float:
    return 1 - sigmoid(beta * (p.w - p.ref_w)) + sigmoid(beta * (p.l - p.ref_l))


def apo_down(p: Pair, beta: float) -> float:
    return sigmoid(beta * (p.w - p.ref_w)) + 1 - sigmoid(margin(p, beta))


def f_dpo(p: Pair, beta: float, derivative) -> float:
    ratios = math.exp(p.w - p.ref_w), math.exp(p.l - p.ref_l)
    return softplus(-beta * (derivative(ratios[0]) - derivative(ratios[1])))


def simpo(p: Pair, beta: float, gamma: float, noise: float) -> float:
    return flipped(beta * p.w / p.len_w - beta * p.l / p.len_l - gamma, noise)


def cpo(p: Pair, beta: float, noise: float, nll: float) -> float:
    return flipped(beta * (p.w - p.l), noise) - nll * p.w / p.len_w


def orpo(p: Pair, beta: float) -> float:
    means = [math.exp(p.w / p.len_w), math.exp(p.l / p.len_l)]
    odds = [m / (1 - m) for m in means]
    return -math.log(means[0]) - beta * math.log(sigmoid(math.log(odds[0] / odds[1])))


def slic(p: Pair, delta: float, nll: float) -> float:
    return max(0.0, delta - p.w + p.l) - nll * p.w


def cpl(p: Pair, alpha: float, bias: float) -> float:
    better, worse = math.exp(alpha * p.w), math.exp(bias * alpha * p.l)
    return -math.log(better / (better + worse))


def aot(pairs: list[Pair], beta: float, noise: float) -> list[float]:
    policy, reference = sorted(p.w - p.l for p in pairs), sorted(p.ref_w - p.ref_l for p in pairs)
    return [flipped(beta * (a - b), noise) for a, b in zip(policy, reference, strict=True)]


def aot_unpaired(pairs: list[Pair], beta: float, noise: float) -> list[float]:
    chosen, rejected = sorted(p.w - p.ref_w for p in pairs), sorted(p.l - p.ref_l for p in pairs)
    return [flipped(beta * (a - b), noise) for a, b in zip(chosen, rejected, strict=True)]


def kto(z: float, desirable: bool, anchor: float, beta: float, weight: float = 1.0) -> float:
    return weight * (1 - sigmoid(beta * (z - anchor if desirable else anchor - z)))


def bco(z: float, desirable: bool, shift: float, beta: float) -> float:
    x = beta * z - beta * shift
    return -math.log(sigmoid(x) if desirable else 1 - sigmoid(x))


def xpo_of_trl(
    model_model: Tensor,
    model_ref: Tensor,
    ref_model: Tensor,
    ref_ref: Tensor,
    chosen: Tensor,
    *,
    beta: float,
    alpha: float,
    ipo: bool,
) -> Tensor:
    """XPO as XPOTrainer of TRL 0.x had it, which 1.16 has not: sums of log-probabilities by whose model, whose sample.

    `chosen` says where the policy's sample is the better one.
    """
    model_ratio, ref_ratio = model_model - ref_model, model_ref - ref_ref
    logits = torch.where(chosen, model_ratio, ref_ratio) - torch.where(chosen, ref_ratio, model_ratio)
    losses = (logits - 1 / (2 * beta)) ** 2 if ipo else -torch.log(1 / (1 + torch.exp(-beta * logits)))
    return (losses + alpha * model_ref).mean()


def nash_md_of_trl(policy: Tensor, reference: Tensor, probability: Tensor, beta: float) -> Tensor:
    """Nash-MD's losses as NashMDTrainer of TRL 0.x had them, which 1.16 has not: of log-probabilities by row and token."""
    ratios = policy.detach() - reference
    return beta * (ratios * policy).sum(1) - (probability - 0.5) * policy.sum(1)
