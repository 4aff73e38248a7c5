"""Reward evaluation: what reward models other than the training one think of a policy's responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from align.errors import ConfigError
from align.evaluation.completions import EvaluatedCompletion, EvaluationPrompt, examples_of
from align.evaluation.gold_evaluation import log_ratios
from align.evaluation.policy import Policy
from align.evaluation.statistics import Interval, bootstrap, mean_interval
from align.evaluation.text import character_bleu, corpus_bleu, distinct, lengths, refuses, repetition
from align.judges.preference import ResponseScorer
from align.rewards.scorers import Scorer
from align.sampling.generation import Sample

TOTAL = "total"


@dataclass(frozen=True)
class RewardSummary:
    """One output of one reward model on one part of the prompts."""

    raw: Interval
    """Mean reward over prompts."""
    sigmoid: Interval
    """Mean of sigmoid(reward) x 100, the scale of PRO's tables (Song et al. 2023)."""
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
    """Mean log-ratio to the start policy in nats; only at temperature 1, where it estimates the KL divergence."""
    per_prompt: dict[str, list[float]]
    """Mean reward of each prompt, for paired comparisons; NaN where a reward model could not read the text."""
    text_by_subset: dict[str, dict[str, float | str]]
    """The same measures of each subset, where there are several."""
    subsets: list[str]
    """Of each prompt, in the order of `per_prompt`."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def evaluate_responses(
    prompts: Sequence[EvaluationPrompt],
    completions: Sequence[EvaluatedCompletion],
    scorers: Mapping[str, ResponseScorer],
    kl: Interval | None = None,
) -> ResponseReport:
    """Score responses and sum them up.

    Args:
        prompts: What was asked.
        completions: The responses; several per prompt are averaged within the prompt.
        scorers: Reward models by name; each of their outputs is reported.
        kl: See `divergence`.
    """
    owners = np.array([c.prompt for c in completions])
    texts = [c.text for c in completions]
    rewards: dict[str, dict[str, RewardSummary]] = {}
    per_prompt: dict[str, list[float]] = {}
    for name, scorer in scorers.items():
        scores = _scores(scorer, [prompts[i] for i in owners], texts)
        labels = getattr(scorer, "attributes", None) or [str(i) for i in range(scores.shape[1])]
        for column, label in enumerate(labels):
            values = scores[:, column]
            output = name if len(labels) == 1 else f"{name}/{label}"
            rows = np.stack([_per_prompt(values, owners), _per_prompt(100 / (1 + np.exp(-values)), owners)], axis=1)
            rewards[output] = _by_subset(rows, [prompts[i].subset for i in np.unique(owners)])
            per_prompt[output] = rows[:, 0].tolist()
    subsets = [prompts[i].subset for i in np.unique(owners)]
    parts = {s: [c for c in completions if prompts[c.prompt].subset == s] for s in sorted(set(subsets))}
    by_subset = {s: _text_measures(prompts, part) for s, part in parts.items()} if len(parts) > 1 else {}
    return ResponseReport(rewards, _text_measures(prompts, completions), kl, per_prompt, by_subset, subsets)


def _scores(
    scorer: ResponseScorer, prompts: Sequence[EvaluationPrompt], texts: Sequence[str]
) -> Float[np.ndarray, "response attribute"]:
    if isinstance(scorer, Scorer):
        return scorer.score_examples(examples_of(prompts), texts).double().numpy()
    return scorer.score([prompt.messages for prompt in prompts], texts).double().numpy()


def divergence(
    policy: Policy,
    start: Policy,
    prompts: Sequence[EvaluationPrompt],
    completions: Sequence[EvaluatedCompletion],
    new_tokens: int,
) -> Interval:
    """Return the mean log-ratio of responses drawn at temperature 1 to the policy a run started from, in nats.

    Each is asked in its own way.
    """
    for one in (policy, start):
        if one.asking.steer is not None and one.asking.steer.where != "all":
            raise ConfigError(f"where {one.asking.steer.where}: no KL divergence of a model steered at some positions")
    kept = [c for c in completions if c.ids]
    samples = [Sample(c.prompt, 0, c.ids, c.text, "eos" if c.finished else "length") for c in kept]
    own, other = ([ids for ids, _ in one.prompt_ids(prompts, new_tokens)] for one in (policy, start))
    with policy.asking.steering(policy.model), start.asking.steering(start.model):
        ratios = np.array(log_ratios((policy.model, own), (start.model, other), samples))
    return mean_interval(_per_prompt(ratios, np.array([c.prompt for c in kept])))


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
