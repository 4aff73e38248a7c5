"""Reward evaluation: what reward models other than the training one think of a policy's responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from align.evaluation.best_of_n import BestOf, BestOfReport, best_of_reports
from align.evaluation.completions import EvaluatedCompletion, EvaluationPrompt, examples_of
from align.evaluation.start_comparison import StartComparison
from align.evaluation.statistics import Interval, bootstrap
from align.evaluation.text import character_bleu, corpus_bleu, distinct, lengths, refuses, repetition
from align.judges.preference import ResponseScorer
from align.rewards.scorers import Scorer

TOTAL = "total"


@dataclass(frozen=True)
class RewardSummary:
    """One output of one reward model on one part of the prompts."""

    raw: Interval
    """Mean reward over prompts."""
    sigmoid: Interval | None
    """Mean of sigmoid(reward) x 100, the scale of PRO's tables (Song et al. 2023); None for what is no log-odds."""
    prompts: int
    """How many it could read."""


@dataclass(frozen=True)
class ResponseReport:
    """What the responses of a policy at one temperature are like."""

    rewards: dict[str, dict[str, RewardSummary]]
    """By reward model output, then by subset; `total` weighs every prompt alike, whatever its subset."""
    text: dict[str, float | str]
    """Lengths, refusal rate, repetition, diversity, BLEU where there are references, share that ended by itself."""
    kl: Interval | None
    """KL divergence to the start policy in nats a response: see `StartComparison`, for the next three too."""
    entropy: Interval | None
    sequence_entropy: Interval | None
    perplexity: Interval | None
    per_prompt: dict[str, list[float]]
    """Mean reward of each prompt, for paired comparisons; NaN where a reward model could not read the text."""
    text_by_subset: dict[str, dict[str, float | str]]
    """The same measures of each subset, where there are several."""
    subsets: list[str]
    """Of each prompt, in the order of `per_prompt`."""
    best_of: dict[str, BestOfReport]
    """What best-of-n reaches, by n; nothing where it is not asked for."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def evaluate_responses(
    prompts: Sequence[EvaluationPrompt],
    completions: Sequence[EvaluatedCompletion],
    scorers: Mapping[str, ResponseScorer],
    beside: StartComparison = StartComparison(),
    best_of: BestOf | None = None,
) -> ResponseReport:
    """Score responses and sum them up.

    Args:
        prompts: What was asked.
        completions: The responses; several per prompt are averaged within the prompt.
        scorers: Reward models by name; each of their outputs is reported.
        beside: How they stand to the model that training started from.
        best_of: For which n the best of n samples is reported.
    """
    owners = np.array([c.prompt for c in completions])
    texts = [c.text for c in completions]
    rewards: dict[str, dict[str, RewardSummary]] = {}
    per_prompt: dict[str, list[float]] = {}
    per_sample: dict[str, list[float]] = {}
    for name, scorer in scorers.items():
        scores = _scores(scorer, [prompts[i] for i in owners], texts)
        labels = getattr(scorer, "attributes", None) or [str(i) for i in range(scores.shape[1])]
        for column, label in enumerate(labels):
            values = scores[:, column]
            output = name if len(labels) == 1 else f"{name}/{label}"
            rows = np.stack([_per_prompt(values, owners), _per_prompt(100 / (1 + np.exp(-values)), owners)], axis=1)
            rewards[output] = _by_subset(rows, [prompts[i].subset for i in np.unique(owners)])
            if not getattr(scorer, "log_odds", True):  # a reward model in itself is no Scorer
                rewards[output] = {s: replace(part, sigmoid=None) for s, part in rewards[output].items()}
            per_prompt[output], per_sample[output] = rows[:, 0].tolist(), values.tolist()
    subsets = [prompts[i].subset for i in np.unique(owners)]
    parts = {s: [c for c in completions if prompts[c.prompt].subset == s] for s in sorted(set(subsets))}
    by_subset = {s: _text_measures(prompts, part) for s, part in parts.items()} if len(parts) > 1 else {}
    return ResponseReport(
        rewards=rewards,
        text=_text_measures(prompts, completions),
        kl=beside.kl,
        entropy=beside.entropy,
        sequence_entropy=beside.sequence_entropy,
        perplexity=beside.perplexity,
        per_prompt=per_prompt,
        text_by_subset=by_subset,
        subsets=subsets,
        best_of={} if best_of is None else best_of_reports(best_of, per_sample, owners.tolist()),
    )


def _scores(
    scorer: ResponseScorer, prompts: Sequence[EvaluationPrompt], texts: Sequence[str]
) -> Float[np.ndarray, "response attribute"]:
    if isinstance(scorer, Scorer):
        return scorer.score_examples(examples_of(prompts), texts).double().numpy()
    return scorer.score([prompt.messages for prompt in prompts], texts).double().numpy()


def _per_prompt(values: NDArray[np.float64], owners: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean value of each prompt that has responses, in the order of prompts."""
    return np.array([values[owners == owner].mean() for owner in np.unique(owners)])


def _by_subset(rows: NDArray[np.float64], subsets: Sequence[str]) -> dict[str, RewardSummary]:
    parts = {TOTAL: rows}
    names = sorted(set(subsets))
    if len(names) > 1:
        parts |= {name: rows[np.array([s == name for s in subsets])] for name in names}
    return {name: _summary(part) for name, part in parts.items()}


def _summary(rows: NDArray[np.float64]) -> RewardSummary:
    raw, sigmoid = bootstrap(rows)
    return RewardSummary(raw, sigmoid, int((~np.isnan(rows[:, 0])).sum()))


def _text_measures(
    prompts: Sequence[EvaluationPrompt], completions: Sequence[EvaluatedCompletion]
) -> dict[str, float | str]:
    texts = [c.text for c in completions]
    tokens = [len(c.ids) for c in completions]
    measures: dict[str, float | str] = {
        **lengths(texts)._asdict(),
        "mean_tokens": float(np.mean(tokens)),
        "finished": float(np.mean([c.finished for c in completions])),
        "prompts_cut": float(np.mean([c.cut for c in completions])),
        "refusal_rate": float(np.mean([refuses(text) for text in texts])),
        "repetition_4": repetition(texts, 4),
        "distinct_1": distinct(texts, 1),
        "distinct_2": distinct(texts, 2),
    }
    pairs = [(c.text, reference) for c in completions if (reference := prompts[c.prompt].reference)]
    if pairs:
        hypotheses, references = zip(*pairs, strict=True)
        measures["bleu_characters_pro"] = character_bleu(hypotheses, references)
        measures["bleu_corpus"], measures["bleu_signature"] = corpus_bleu(hypotheses, references)
    return {name: value for name, value in measures.items() if isinstance(value, str) or not np.isnan(value)}
