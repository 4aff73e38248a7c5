"""Judge evaluation: one set of responses against another, with all that tells how far to trust the judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from align.errors import ConfigError
from align.evaluation.comparison import Comparison, compare
from align.evaluation.completions import EvaluationPrompt, examples_of
from align.evaluation.statistics import Interval, bootstrap
from align.judges.preference import Judge, Preference
from align.records import Message

Label = Literal["win", "tie", "lose"]
LABELS: tuple[Label, ...] = ("win", "tie", "lose")
CANARIES = (
    ("What is the capital of France?", "The capital of France is Paris.", "The capital of France is made of cheese."),
    ("How many days are in a week?", "A week has seven days.", "qw zx fjfj 12 12 12 lorem"),
    ("Name three primary colours.", "Red, yellow and blue are primary colours.", "No."),
    ("How do I boil an egg?", "Put it in boiling water for eight minutes, then cool it in cold water.", "Use glue."),
)
"""Questions with a good and a bad answer, which a judge fit for use tells apart."""


class JudgeAgreement(NamedTuple):
    """How often a judge and people give the same label, over items both judged."""

    rate: Interval
    """Of win, tie and lose alike."""
    kappa: Interval
    """Cohen's, beyond chance."""
    decided: Interval
    """Of the items where neither says tie; NaN without any."""
    items: int
    left_out: int
    """Items without a valid verdict or without a label."""


@dataclass(frozen=True)
class JudgeReport:
    """Side A against side B."""

    judge: str
    total: Comparison
    subsets: dict[str, Comparison]
    canaries: float | None
    """Share of known answers the judge gets right in both orders; None when it was not asked."""
    details: dict[str, object]
    """Invalid replies by reason, requests, tokens, cost, responses that address the judge."""
    preferences: list[Preference] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; the items one by one under `preferences`."""
        return asdict(self)


def evaluate_judge(
    judge: Judge, prompts: Sequence[EvaluationPrompt], first: Sequence[str], second: Sequence[str]
) -> JudgeReport:
    """Ask a judge about every prompt and sum up.

    Args:
        judge: Who decides.
        prompts: What was asked.
        first: Responses of side A.
        second: Responses of side B.
    """
    known = canary_accuracy(judge) if judge.asks_canaries else None
    preferences = judge.prefer_examples(examples_of(prompts), first, second)
    sizes = [(len(a), len(b)) for a, b in zip(first, second, strict=True)]
    parts = {name: [i for i, p in enumerate(prompts) if p.subset == name] for name in {p.subset for p in prompts}}
    if all(math.isnan(p.probability) for p in preferences):
        reasons = judge.report().get("invalid_replies") or "no valid score"
        raise ConfigError(f"judge {judge.name}: none of {len(preferences)} items got a valid verdict: {reasons}")
    subsets = {
        name: compare([preferences[i] for i in part], [sizes[i] for i in part])
        for name, part in sorted(parts.items())
        if len(parts) > 1 and any(not math.isnan(preferences[i].probability) for i in part)
    }
    return JudgeReport(judge.name, compare(preferences, sizes), subsets, known, judge.report(), preferences)


def canary_accuracy(judge: Judge) -> float:
    """Return how often the judge prefers the good one of two known answers in both orders."""
    questions, good, bad = zip(*CANARIES, strict=True)
    found = judge.prefer([[Message("user", q)] for q in questions], good, bad)
    return sum(p.probability == 1 for p in found) / len(found)


def label_of(preference: Preference) -> Label | None:
    """Return the label of side A, None for an invalid item."""
    if math.isnan(preference.probability):
        return None
    return "tie" if preference.probability == 0.5 else "win" if preference.probability > 0.5 else "lose"


def agreement(preferences: Sequence[Preference], human: Sequence[Label | None]) -> JudgeAgreement:
    """Compare a judge with human labels of the same items; items without a label of either side are left out."""
    labels = [(label_of(p), h) for p, h in zip(preferences, human, strict=True)]
    pairs = [(a, h) for a, h in labels if a is not None and h is not None]
    if not pairs:
        raise ConfigError("no item has both a valid verdict and a human label")
    both = np.array([[[label == known for known in LABELS] for label in pair] for pair in pairs], dtype=np.float64)
    same = (both[:, 0] * both[:, 1]).sum(axis=1)
    apart = (both[:, :, LABELS.index("tie")] == 1).any(axis=1)
    (rate,) = bootstrap(same[:, None])
    (decided,) = bootstrap(np.where(apart, math.nan, same)[:, None])
    (kappa,) = bootstrap(both.reshape(len(both), -1), _kappa)
    return JudgeAgreement(rate, kappa, decided, len(pairs), len(labels) - len(pairs))


def _kappa(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Cohen's kappa of one-hot labels, `[..., item, rater label]`; NaN when chance agrees always."""
    both = rows.reshape(*rows.shape[:-1], 2, len(LABELS))
    observed = both.prod(axis=-2).sum(axis=-1).mean(axis=-1)
    expected = both.mean(axis=-3).prod(axis=-2).sum(axis=-1)
    certain = expected > 1 - 1e-12
    return np.where(certain, math.nan, (observed - expected) / np.where(certain, 1, 1 - expected))[..., None]
