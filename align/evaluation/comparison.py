"""What the verdicts of a judge on two sets of responses amount to: wins, ties, losses, and how far to trust them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from align.evaluation.statistics import Interval, bootstrap

Scale = Literal["share", "odds", "max"]
SCALES: tuple[Scale, ...] = ("share", "odds", "max")


@dataclass(frozen=True)
class Comparison:
    """Side A against side B over prompts; an item counts only when both orders were answered validly.

    Both orders are asked and averaged (RAHF, Liu et al. 2023, arXiv:2312.15997, A.2): two verdicts that contradict
    each other make a tie. An invalid reply is neither win, tie nor loss; RAHF counts it as half a win.
    """

    win: Interval
    """Share of items A wins in both orders, or in one with a tie in the other."""
    tie: Interval
    lose: Interval
    win_rate: Interval
    """Mean item score, a tie counting half; with one outcome of half weight per order (PRO) the mean is the same."""
    length_controlled: float
    """Win rate had both sides been of one length; see `length_controlled_win_rate`."""
    flip_rate: Interval
    """Share of items whose verdict depends on the order."""
    first_rate: float
    """Share of the decided replies that choose the response shown first; 0.5 without position bias."""
    items: int
    """Items that count."""
    invalid: int
    """Items with an invalid reply in at least one order."""

    @property
    def decided(self) -> Literal["a", "b"] | None:
        """Return the better side, or None when the interval of the win rate holds 0.5."""
        if self.win_rate.low > 0.5:
            return "a"
        return "b" if self.win_rate.high < 0.5 else None


def compare(outcomes: ArrayLike, lengths: Sequence[tuple[int, int]], *, seed: int = 0) -> Comparison:
    """Sum up the outcomes of a judge.

    Args:
        outcomes: `[item, order]`: how well A did, from 0 to 1, when shown first and when shown second; NaN is invalid.
        lengths: Characters of the responses of A and B.
        seed: Of the bootstrap.
    """
    table = np.asarray(outcomes, dtype=np.float64).reshape(-1, 2)
    valid = ~np.isnan(table).any(axis=1)
    if not valid.any():
        raise ValueError(f"none of {len(table)} items has a valid verdict in both orders")
    kept = table[valid]
    score = kept.mean(axis=1)
    flipped = np.sign(kept[:, 0] - 0.5) != np.sign(kept[:, 1] - 0.5)
    columns = np.stack([score > 0.5, score == 0.5, score < 0.5, score, flipped], axis=1)
    win, tie, lose, rate, flip = bootstrap(columns, seed=seed)
    first = np.concatenate([table[:, 0], 1 - table[:, 1]])
    first = first[~np.isnan(first) & (first != 0.5)]
    differences = np.array([a - b for a, b in lengths], dtype=np.float64)[valid]
    return Comparison(
        win=win,
        tie=tie,
        lose=lose,
        win_rate=rate,
        length_controlled=length_controlled_win_rate(score, differences),
        flip_rate=flip,
        first_rate=float((first > 0.5).mean()) if len(first) else float("nan"),
        items=int(valid.sum()),
        invalid=int((~valid).sum()),
    )


def length_controlled_win_rate(scores: NDArray[np.float64], differences: NDArray[np.float64]) -> float:
    """Return the win rate that a logistic model predicts for responses of the same length.

    AlpacaEval 2 (Dubois et al. 2024, arXiv:2404.04475, Eq. 2): logit P(A wins) = theta + phi tanh(d / std(d)), and the
    rate is that at d = 0. Their term for the difficulty of each instruction and their rows of gamed baselines need
    tables that are not public with the code, so they are left out; in place of these rows and of a cross-validated
    lasso, phi has a Gaussian prior of standard deviation 1/2, our choice. Their published rates are therefore not met:
    for alpaca-7b and vicuna-7b this finds 8.1 and 7.8 where they state 5.9 and 6.3 (raw 2.6 and 4.2).

    Args:
        scores: One per item, from 0 to 1.
        differences: Length of A minus length of B, in characters.
    """
    spread = differences.std(ddof=1) if len(differences) > 1 else 0.0
    features = np.stack([np.ones_like(scores), np.tanh(differences / spread) if spread else 0 * scores], axis=1)
    weights, precision = np.zeros(2), np.array([0.01, 4.0])  # that on theta keeps it finite where all items are won
    for _ in range(100):  # Newton's method
        chances = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (chances - scores) + precision * weights
        hessian = features.T @ (features * (chances * (1 - chances))[:, None]) + np.diag(precision)
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if np.abs(step).max() < 1e-10:
            break
    return float(1 / (1 + np.exp(-weights[0])))


def standardise(wins: Mapping[str, float], items: Mapping[str, int], kind: Scale = "share") -> dict[str, float]:
    """Return the win counts of several methods against one, on a common scale.

    RAHF (Liu et al. 2023) compares all methods with itself by its Eq. 5, whose formula does not survive in any copy at
    hand; these are the readings that fit the text. Give the one compared against as half of its items. Rates of 0 and 1
    are drawn in by (wins + 1/2) / (items + 1), so that odds stay finite.

    Args:
        wins: Items won by each method, ties half.
        items: Items of each method.
        kind: `share` of the sum, `odds` w / (1 - w) (a Bradley-Terry strength), or over the largest (`max`).
    """
    for name, won in wins.items():
        if not 0 <= won <= items[name] or items[name] < 1:
            raise ValueError(f"wins of {name} must lie between 0 and its {items[name]} items, got {won}")
    rates = {k: (n + 0.5) / (items[k] + 1) if n in (0, items[k]) else n / items[k] for k, n in wins.items()}
    if kind == "odds":
        return {name: rate / (1 - rate) for name, rate in rates.items()}
    scale = sum(rates.values()) if kind == "share" else max(rates.values())
    return {name: rate / scale for name, rate in rates.items()}


def common_scales(totals: Mapping[str, Comparison], against: str) -> dict[Scale, dict[str, float]]:
    """Return the win rates on each scale of RAHF's Eq. 5, what all are compared with at one half."""
    if not totals:
        return {}
    items = {name: total.items for name, total in totals.items()} | {against: 2}
    wins = {name: total.win_rate.value * total.items for name, total in totals.items()} | {against: 1.0}
    return {kind: standardise(wins, items, kind) for kind in SCALES}
