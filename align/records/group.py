"""One candidate group as token ids, and what it adds to the denominators of a step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class EncodedGroup(NamedTuple):
    """One candidate group as token ids: what the encoder makes and the cache holds."""

    id: str
    prompt_ids: list[int]
    response_ids: list[list[int]]
    ranks: list[int]
    scores: list[list[float]]
    weight: float
    truncated: list[bool]
    instructed_ids: Sequence[list[int]] = ()
    """The same prompt under each instruction, where a method has instructions."""
    own_prompt_ids: Sequence[list[int]] = ()
    """A prompt per response, where they differ."""
    response_weights: Sequence[list[float]] = ()
    """How much each response token counts, 0 for one that is not scored; none where all count 1."""
    length: int = 0
    """Longest prompt plus response before anything was cut."""
    notes: Sequence[str] = ()
    """What of the row is not in the tokens."""

    @property
    def prompts(self) -> Sequence[list[int]]:
        """Return the prompts, one for all responses or one for each."""
        return self.own_prompt_ids or [self.prompt_ids]


class StepTotals(NamedTuple):
    """Sums over all batches of one step, on every rank: the denominators of its loss; and its largest share."""

    weight: float
    """Sum of the group weights."""
    response_tokens: float
    """Scored response tokens, each counted with the weight of its group."""
    prompt_tokens: float
    """Prompt tokens that have a predecessor, counted likewise."""
    labels: float = 0.0
    """Known labels of the responses, counted likewise."""
    labelled: float = 0.0
    """Responses with at least one known label, counted likewise."""
    rank_groups: int = 0
    """Groups of the rank that has most of the step, padding among them; 0 where the loader has not told."""
    rank_tokens: int = 0
    """Response tokens of the rank that has most of them, scored or not, likewise."""
    group_candidates: int = 0
    """Candidates of the largest group, likewise."""
    tokens: int = 0
    """Prompt tokens, each prompt once, and response tokens of all ranks, likewise."""


class GroupCounts(NamedTuple):
    """What a group adds to the totals of its step, before its weight."""

    weight: float
    response_tokens: float
    prompt_tokens: int
    labels: int = 0
    labelled: int = 0


def counts_of(group: EncodedGroup) -> GroupCounts:
    """Count the tokens and the known labels of a group."""
    known = [sum(not math.isnan(s) for s in row) for row in group.scores]
    responses = sum(map(sum, group.response_weights)) if group.response_weights else sum(map(len, group.response_ids))
    prompts = sum(map(len, group.prompts))
    return GroupCounts(group.weight, responses, prompts, sum(known), sum(map(bool, known)))


def totals_of(groups: Iterable[GroupCounts]) -> StepTotals:
    """Sum the counts of the groups of a step by weight; a prompt's first token is not counted."""
    totals = [0.0] * 5
    for counts in groups:
        for i, count in enumerate((1, counts.response_tokens, max(counts.prompt_tokens - 1, 0), *counts[3:])):
            totals[i] += counts.weight * count
    weight, responses, prompts, labels, labelled = totals
    return StepTotals(weight, responses, prompts, labels, labelled)


def shared_prompt(groups: Sequence[EncodedGroup]) -> tuple[int, ...]:
    """Return the place of each response's prompt among the prompts of all groups."""
    found, first = list[int](), 0
    for group in groups:
        found += [first + (n if group.own_prompt_ids else 0) for n in range(len(group.response_ids))]
        first += len(group.prompts)
    return tuple(found)


def prompt_of_each(group: EncodedGroup) -> Sequence[list[int]]:
    """Return the prompt of every response, one object for all where they share it."""
    return group.own_prompt_ids or [group.prompt_ids] * len(group.response_ids)


def token_weights(group: EncodedGroup) -> list[float]:
    """Return the weights of all response tokens, one after the other."""
    return [w for row in group.response_weights or ([1.0] * len(r) for r in group.response_ids) for w in row]
