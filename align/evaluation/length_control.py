"""AlpacaEval 2's length-controlled win rate, by its published model and from its published table."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from align.errors import ConfigError, DataError, shorten
from align.evaluation.alpaca_eval import Annotated
from align.evaluation.answer_files import read_alpaca_instructions

LAMBDA = 0.2
"""Weight of the annotations of the gamed baselines beside the model's own; halved, since there are two baselines."""
FOLDS = 5
TABLE = ("index", "instruction_difficulty", "std_delta_len", "preference", "not_gamed_baseline")


KNOWN = ("80812b0556445b68", "8a362c893a6ecb10")
"""Hashes of AlpacaEval's 805 instructions in their order, and of the same sorted."""


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


def read_order(path: Path, gamed: Gamed) -> list[str]:
    """Return the instructions of a file in its order. Raises DataError where the table belongs to other ones."""
    order = [instruction for instruction, _ in read_alpaca_instructions(path)]
    if len(order) != len(gamed.difficulty):
        raise DataError(
            f"{path} has {len(order)} instructions and the table of difficulties {len(gamed.difficulty)}: length "
            "control needs the whole evaluation set in its order. Annotate without --difficulty, then name the "
            "annotations with the whole set in --baseline"
        )
    return order


def places_of(instructions: Sequence[str], order: Sequence[str] | None, gamed: Gamed) -> list[int]:
    """Return the place of each annotation in the evaluation set, by its instruction, or as they stand.

    The table knows instructions by their place alone, so that a file which lacks some, or has another order, would be
    given other instructions' difficulties: as the package does, without a word.

    Args:
        instructions: Those of the annotations.
        order: All instructions of the evaluation set, in its order; null where the annotations are all of them.
        gamed: The published table.
    """
    if order is None:
        if len(instructions) != len(gamed.difficulty):
            raise DataError(
                f"the table of difficulties has {len(gamed.difficulty)} instructions and there are {len(instructions)} "
                "annotations, so that their places are not known: name a file with all instructions in their order "
                "in --baseline"
            )
        in_order, together = (_hash(texts) for texts in (instructions, sorted(instructions)))
        if together == KNOWN[1] and in_order != KNOWN[0]:
            raise DataError(
                "the annotations are of AlpacaEval's instructions in another order than the set's, by which the table "
                "of difficulties knows them: name a file with all in their order in --baseline, such as the outputs of "
                "any model of its leaderboard"
            )
        return list(range(len(instructions)))
    known = {text: place for place, text in enumerate(order)}
    if lost := [text for text in instructions if text not in known]:
        raise DataError(
            f"{len(lost)} of {len(instructions)} annotations are of an instruction that --baseline lacks, the first "
            f"{shorten(lost[0], 60)!r}: their difficulty is not known"
        )
    return [known[text] for text in instructions]


def _hash(instructions: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(instructions).encode("utf-8", "replace")).hexdigest()[:16]


def rate_of(found: Annotated, gamed: Gamed, order: Sequence[str] | None) -> tuple[float, float]:
    """Return the length-controlled win rate of a model's annotations and its error, placed as `places_of` says.

    They go into the fit by their places, so that the folds of its cross-validation are those of the set's own order.
    """
    places = places_of([row["instruction"] for row in found.rows], order, gamed)
    rows = sorted(zip(places, found.scores, found.rows, strict=True), key=lambda row: row[0])
    lengths = [(len(row["output_1"]), len(row["output_2"])) for _, _, row in rows]
    return length_controlled([score for _, score, _ in rows], lengths, gamed, [place for place, _, _ in rows])


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
