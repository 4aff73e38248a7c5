"""How likely a policy finds given responses: what its implicit rewards are made of."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from align.checks.layout_check import LOGPROBS, LayoutCheck, refuse_layouts
from align.checks.reward_check import few, on_device
from align.encoding.encoder import Dropped, Encoder
from align.errors import ConfigError
from align.evaluation.policy import Policy
from align.models.adapters import evaluating
from align.records import CandidateBatch, EncodedGroup, Example, ResponseScores
from align.scoring import score_responses
from align.scoring.decoder import unwrapped


class Likelihoods(NamedTuple):
    """Log-probabilities of the responses of some examples, in nats, their end included."""

    sums: list[list[float]]
    """Of whole responses by example; NaN for all responses of an example that was not read."""
    tokens: list[list[int]]
    """How many tokens each has."""
    cut: int
    """How many examples were read without the start of their prompt or the end of a response."""
    dropped: dict[str, str]
    """Why an example was not read, by its id."""

    @property
    def per_token(self) -> list[list[float]]:
        """Return the mean over the tokens of each response."""
        rows = zip(self.sums, self.tokens, strict=True)
        return [[total / max(count, 1) for total, count in zip(*row, strict=True)] for row in rows]

    def less(self, reference: Likelihoods) -> list[list[float]]:
        """Return log p_policy - log p_reference of whole responses: DPO's implicit reward over beta (its Eq. 5)."""
        rows = zip(self.sums, reference.sums, strict=True)
        return [[own - other for own, other in zip(*row, strict=True)] for row in rows]


def response_likelihoods(
    policy: Policy, encoder: Encoder, examples: Sequence[Example], *, batch_tokens: int = 4096, name: str = "policy"
) -> Likelihoods:
    """Score the responses of examples. The prompt of an example is the same for all its responses, cut or not.

    Args:
        policy: The model.
        encoder: How dialogues become its tokens, with what it is asked under.
        examples: Prompts with their responses.
        batch_tokens: Tokens of a forward pass; a larger example is computed by itself.
        name: What warnings call it.

    Raises ModelError where no layout agrees with a plain forward pass of transformers, ConfigError for steering that
    one pass cannot give.
    """
    steer = policy.asking.steer
    if steer is not None and steer.where != "all":
        raise ConfigError(
            f"{name}: it is steered where {steer.where}, and responses are scored in one pass, where all positions are"
        )
    found = encoder.encode(examples) if examples else []
    places = [n for n, group in enumerate(found) if not isinstance(group, Dropped)]
    groups = {n: group for n in places if not isinstance(group := found[n], Dropped)}
    sums = [[math.nan] * len(example.responses) for example in examples]
    tokens = [[0] * len(example.responses) for example in examples]
    with torch.no_grad(), evaluating(policy.model):
        if groups:
            _check(policy, list(groups.values()), name)
        with policy.asking.steering(policy.model):
            for part in _batches(groups, batch_tokens):
                scores = _scores(policy, [groups[n] for n in part])
                values, counts = iter(scores.logprobs.tolist()), iter(scores.lengths.tolist())
                for n in part:
                    sums[n] = [next(values) for _ in sums[n]]
                    tokens[n] = [int(next(counts)) for _ in tokens[n]]
    cut = sum(group.length > encoder.truncation.max_total for group in groups.values())
    return Likelihoods(sums, tokens, cut, {row.id: row.reason for row in found if isinstance(row, Dropped)})


def _scores(policy: Policy, groups: Sequence[EncodedGroup]) -> ResponseScores:
    device = next(policy.model.parameters()).device
    return score_responses(policy.model, on_device(CandidateBatch.of(groups), device))


def _check(policy: Policy, groups: Sequence[EncodedGroup], name: str) -> None:
    """Compare the model's layouts with a plain forward pass; those that differ are refused from then on."""
    check = LayoutCheck(policy.model, LOGPROBS, gradients=False, everywhere=False)
    verdict = check(few(groups, policy.model))
    if verdict.refused:
        warnings.warn(verdict.warning(name), stacklevel=2)
        refuse_layouts([unwrapped(policy.model)], list(verdict.refused))


def _batches(groups: dict[int, EncodedGroup], budget: int) -> Iterator[list[int]]:
    """Yield groups of similar size whose tokens, padded to the longest, are within the budget, the largest first."""
    left = sorted(groups, key=lambda n: _size(groups[n]), reverse=True)
    while left:
        count = max(budget // _size(groups[left[0]]), 1)
        yield left[:count]
        left = left[count:]


def _size(group: EncodedGroup) -> int:
    longest = max(map(len, group.response_ids))
    return len(group.response_ids) * (max(map(len, group.prompts)) + longest)
