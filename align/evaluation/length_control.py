"""AlpacaEval 2's length-controlled win rate, by its published model and from its published table."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from align.errors import ConfigError, DataError, shorten

LAMBDA = 0.2
"""Weight of the annotations of the gamed baselines beside the model's own; halved, since there are two baselines."""
FOLDS = 5
TABLE = ("index", "instruction_difficulty", "std_delta_len", "preference", "not_gamed_baseline")


class Gamed(NamedTuple):
    """AlpacaEval's `df_gamed.csv`: annotations of gamed baselines, and the difficulty of each instruction."""

    difficulty: dict[int, float]
    """By the place of the instruction in the evaluation set."""
    features: NDArray[np.float64]
    """`[row, feature]`: tanh of the length difference, difficulty, whether this is no gamed baseline."""
    preferences: NDArray[np.float64]
    """From 0 to 1; NaN without a judgment."""


def read_gamed(path: Path) -> Gamed:
    """Read `df_gamed.csv` of the hub's data set tatsu-lab/alpaca_eval."""
    difficulty: dict[int, float] = {}
    rows = []
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                length, hard, preference = (
                    float(row[key] or "nan") for key in ("std_delta_len", "instruction_difficulty", "preference")
                )
                difficulty.setdefault(int(float(row["index"])), hard)
                real = {"True": 1.0, "False": 0.0}[row["not_gamed_baseline"]]
                rows.append((math.tanh(length), hard, real, preference))
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: expected AlpacaEval's df_gamed.csv, with {', '.join(TABLE)} ({shorten(repr(error))})"
        ) from error
    if not rows:
        raise DataError(f"{path}: the table is empty")
    table = np.array(rows)
    return Gamed(difficulty, table[:, :3], table[:, 3])


def length_controlled(
    scores: Sequence[float],
    lengths: Sequence[tuple[int, int]],
    gamed: Gamed,
    places: Sequence[int] | None = None,
) -> tuple[float, float]:
    """Return the length-controlled win rate and its standard error, in per cent.

    `length_controlled_v1` of the package (Dubois et al. 2024, arXiv:2404.04475, Eq. 2): a logistic model of the tanh of
    the standardised length difference, the difficulty of the instruction, and the model itself, without intercept; the
    gamed baselines regularise it, the lasso's strength is found by cross-validation; predicted at equal lengths.

    Args:
        scores: How much each answer is preferred, from 0 to 1; NaN without a judgment.
        lengths: Characters of the answers of baseline and model.
        gamed: The published table.
        places: Of the instructions in the evaluation set; null where they stand in its order.
    """
    places = range(len(scores)) if places is None else places
    unknown = [place for place in places if place not in gamed.difficulty]
    if unknown:
        raise DataError(
            f"the table of difficulties has no row for {len(unknown)} of {len(scores)} annotations, the first at place "
            f"{unknown[0]}: it belongs to AlpacaEval's 805 instructions, in their order"
        )
    apart = np.array([one - other for one, other in lengths], dtype=np.float64)
    spread = apart.std(ddof=1) if len(apart) > 1 else 0.0
    if not spread:
        raise DataError("length control: all answers differ from the baseline's by the same length")
    own = np.stack(
        [np.tanh(apart / spread), [gamed.difficulty[place] for place in places], np.ones(len(scores))], axis=1
    )
    features, preferences = np.concatenate([gamed.features, own]), np.concatenate([gamed.preferences, scores])
    weights = np.concatenate([np.where(gamed.features[:, 2] == 1, 1.0, LAMBDA / 2), np.ones(len(scores))])
    there = ~np.isnan(preferences) & ~np.isnan(features).any(axis=1)
    coefficients = _fit(features[there], preferences[there], weights[there])
    predicted = 1 / (1 + np.exp(-(own[:, 1:] @ coefficients[1:])))
    return 100 * float(predicted.mean()), 100 * float(predicted.std(ddof=1)) / math.sqrt(len(predicted))


def _fit(
    features: NDArray[np.float64], preferences: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the coefficients; a preference p is a win of weight p and a loss of weight 1 - p, as in the package."""
    try:
        from sklearn import config_context
        from sklearn.linear_model import LogisticRegressionCV
        from sklearn.metrics import make_scorer
        from sklearn.model_selection import GroupKFold
    except ImportError as error:
        raise ConfigError("length control needs scikit-learn: pip install 'align-lm[alpaca-eval]'") from error

    both = np.concatenate([preferences, 1 - preferences])
    won = np.repeat([1, 0], len(preferences))
    with config_context(enable_metadata_routing=True):
        scorer = make_scorer(_log_likelihood, response_method="predict_proba").set_score_request(
            probability=True, weight=True
        )
        model = LogisticRegressionCV(
            cv=GroupKFold(n_splits=FOLDS),
            scoring=scorer,
            random_state=123,
            solver="liblinear",
            l1_ratios=(1.0,),
            fit_intercept=False,
            use_legacy_attributes=False,
        ).set_fit_request(sample_weight=True)
        model.fit(
            np.concatenate([features, features]),
            won,
            sample_weight=both * np.concatenate([weights, weights]),
            groups=np.tile(np.arange(len(preferences)), 2),
            probability=both,
            weight=np.concatenate([weights, weights]),
        )
    found: NDArray[np.float64] = model.coef_[0]
    return found


def _log_likelihood(
    won: NDArray[np.int64],
    predicted: NDArray[np.float64],
    probability: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> float:
    target = np.where(won == 1, probability, 1 - probability)
    chance = np.clip(predicted, 1e-15, 1 - 1e-15)
    return float((weight * (target * np.log(chance) + (1 - target) * np.log(1 - chance))).mean())
