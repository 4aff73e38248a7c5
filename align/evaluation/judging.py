"""Judge evaluation: one set of responses against another, with all that tells how far to trust the judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from align.errors import ConfigError
from align.evaluation.comparison import Comparison, compare
from align.evaluation.completions import Prompt
from align.evaluation.statistics import Interval, cohen_kappa, mean_interval
from align.oracles.preference import Judge, Preference
from align.records import Message

Label = Literal["win", "tie", "lose"]
CANARIES = (
    ("What is the capital of France?", "The capital of France is Paris.", "The capital of France is made of cheese."),
    ("How many days are in a week?", "A week has seven days.", "qw zx fjfj 12 12 12 lorem"),
    ("Name three primary colours.", "Red, yellow and blue are primary colours.", "No."),
    ("How do I boil an egg?", "Put it in boiling water for eight minutes, then cool it in cold water.", "Use glue."),
)
"""Questions with a good and a bad answer, which a judge fit for use tells apart."""


class Agreement(NamedTuple):
    """How often a judge and a human give the same label, over items both judged."""

    rate: Interval
    kappa: float
    items: int


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


def evaluate_judge(judge: Judge, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]) -> JudgeReport:
    """Ask a judge about every prompt and sum up.

    Args:
        judge: Who decides.
        prompts: What was asked.
        first: Responses of side A.
        second: Responses of side B.
    """
    known = canary_accuracy(judge) if judge.asks_canaries else None
    preferences = judge.prefer([p.messages for p in prompts], first, second)
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


def agreement(preferences: Sequence[Preference], human: Sequence[Label | None]) -> Agreement:
    """Compare a judge with human labels of the same items; items without a label of either side are left out."""
    labels = [(label_of(p), h) for p, h in zip(preferences, human, strict=True)]
    pairs = [(a, h) for a, h in labels if a is not None and h is not None]
    if not pairs:
        raise ValueError("no item has both a valid verdict and a human label")
    ours, theirs = zip(*pairs, strict=True)
    return Agreement(mean_interval([float(a == h) for a, h in pairs]), cohen_kappa(ours, theirs), len(pairs))
