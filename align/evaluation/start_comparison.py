"""Responses beside the model that training started from: how far, how sharp, and how likely under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from align.errors import ConfigError
from align.evaluation.completions import EvaluatedCompletion, EvaluationPrompt
from align.evaluation.matched_temperature import SampledEntropy, sampled_entropy
from align.evaluation.policy import Policy
from align.evaluation.statistics import Interval, bootstrap
from align.sampling.generation import Sample


@dataclass(frozen=True)
class StartComparison:
    """What responses of a policy are like under the policy and under its start; intervals are over prompts."""

    perplexity: Interval | None = None
    """Of the responses under the start at temperature 1, all tokens together: below the start's own, text is duller."""
    kl: Interval | None = None
    """KL divergence of the policy, as it was sampled, to the start at temperature 1, in nats a response."""
    entropy: Interval | None = None
    """Of the next token where the policy stood, in nats: mean over all tokens."""
    sequence_entropy: Interval | None = None
    """Of whole responses, in nats: the sum over their tokens."""


def compare_with_start(
    policy: Policy,
    start: Policy,
    prompts: Sequence[EvaluationPrompt],
    completions: Sequence[EvaluatedCompletion],
    *,
    new_tokens: int,
    temperature: float,
) -> StartComparison:
    """Return how responses stand to the start; without divergence and entropies where nothing was drawn.

    Args:
        policy: The model that answered, asked in its own way.
        start: The model training started from, asked in its own way.
        prompts: What was asked.
        completions: The responses, drawn with top_p 1.
        new_tokens: Longest response, as prompts were cut for it.
        temperature: Of the draw; 0 for the most probable responses.

    Raises ConfigError for a model steered at some positions only.
    """
    for one in (policy, start):
        if one.asking.steer is not None and one.asking.steer.where != "all":
            raise ConfigError(f"where {one.asking.steer.where}: no KL divergence of a model steered at some positions")
    kept = [c for c in completions if c.ids]
    samples = [Sample(c.prompt, 0, c.ids, c.text, "eos" if c.finished else "length") for c in kept]
    owners = np.array([c.prompt for c in kept])
    under_start = read_samples(start, prompts, samples, new_tokens=new_tokens, temperature=1.0)
    surprise = np.stack([-under_start.logprobs, under_start.tokens], axis=1)
    (perplexity,) = bootstrap(_means(surprise, owners), lambda t: np.exp(_ratio(t))[..., None])
    if temperature == 0:
        return StartComparison(perplexity)
    own = read_samples(policy, prompts, samples, new_tokens=new_tokens, temperature=temperature)
    columns = np.stack([own.entropies, own.tokens, own.logprobs - under_start.logprobs], axis=1)
    table = _means(columns, owners)
    sequence, _, kl = bootstrap(table)
    (entropy,) = bootstrap(table, lambda t: _ratio(t)[..., None])
    return StartComparison(perplexity, kl, entropy, sequence)


def read_samples(
    policy: Policy,
    prompts: Sequence[EvaluationPrompt],
    samples: Sequence[Sample],
    *,
    new_tokens: int,
    temperature: float,
) -> SampledEntropy:
    """Return log-probabilities and entropies of samples under a policy, asked and steered in its own way."""
    ids = [tokens for tokens, _ in policy.prompt_ids(prompts, new_tokens)]
    with policy.asking.steering(policy.model):
        return sampled_entropy(policy.model, ids, samples, temperature)


def _means(columns: Float[np.ndarray, "sample column"], owners: np.ndarray) -> Float[np.ndarray, "prompt column"]:
    """Return the mean of every column over the samples of each prompt that has any."""
    return np.stack([columns[owners == owner].mean(axis=0) for owner in np.unique(owners)])


def _ratio(table: Float[np.ndarray, "... prompt column"]) -> Float[np.ndarray, ...]:
    """Return the sum of the first column over that of the second."""
    found: Float[np.ndarray, ...] = table[..., 0].sum(-1) / table[..., 1].sum(-1)
    return found
