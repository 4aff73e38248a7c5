"""Best-of-n in the synthetic world: chosen by a reward model or by the gold reward, worth what the gold reward says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from align.evaluation.best_of_n import best_of_weights, kl_bound
from align.evaluation.gold_evaluation import GoldReport
from align.evaluation.statistics import nested_interval
from align.evaluation.world_rewards import GOLD, Scores, means


def best_of_gold(report: GoldReport, scores: Scores, sizes: Sequence[int]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return, by who chooses and by n, what the best of n samples is worth.

    Each is the mean over all choices of n among a prompt's samples (`best_of_weights`), with the reward, what the
    reward models say, and the most the KL divergence to the model can be (`kl_bound`; Gao et al. 2022,
    arXiv:2210.10760, take it as the divergence itself). Of samples of the same worth to the one that chooses, the mean.

    Args:
        report: The samples, as many of every prompt.
        scores: What reward models say of them; no sample may be without.
        sizes: Every n.
    """
    owners = np.array([sample.prompt for sample in report.drawn.samples])
    told = {"reward": [answer.reward for answer in report.answers], **scores}
    table = np.stack(
        [np.asarray(values, dtype=np.float64)[np.argsort(owners, kind="stable")] for values in told.values()]
    )
    table = table.reshape(len(told), len(report.entities), -1)
    return {
        by: {str(n): _chosen(table, place, n, list(scores), report.entities) for n in sizes}
        for place, by in enumerate((GOLD, *scores))
    }


def _chosen(
    table: Float[np.ndarray, "reward prompt sample"], by: int, n: int, names: list[str], entities: Sequence[str]
) -> dict[str, Any]:
    shares = np.stack([_shares(values, n) for values in table[by]])
    reward, *others = (table * shares).sum(-1)
    interval = nested_interval(reward, entities)
    return {
        "reward": interval.value,
        "low": interval.low,
        "high": interval.high,
        "kl": kl_bound(n),
        "by_prompt": {"reward": reward.tolist()},
        "reward_models": means(dict(zip(names, others, strict=True))),
    }


def _shares(values: Float[np.ndarray, " sample"], n: int) -> Float[np.ndarray, " sample"]:
    """Return how likely each sample is to be the best of n; those of one value share what they have."""
    order = np.argsort(values, kind="stable")
    weights = np.empty(len(values))
    weights[order] = best_of_weights(n, len(values))
    _, same = np.unique(values, return_inverse=True)
    shared: Float[np.ndarray, " sample"] = (np.bincount(same, weights) / np.bincount(same))[same]
    return shared
