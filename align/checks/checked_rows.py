"""Which rows of the data a check looks at, and how much of them: enough to see a fault, at next to no cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from align.records import CandidateBatch, EncodedGroup

MOST_CANDIDATES = 4
WORK = 4e9
"""Parameters times tokens a check may run through on a CPU; below this, reading the weights is what takes time."""
FEWEST, MOST = 32, 2048
"""Tokens a check looks at, at least and at most."""


class Groups(Protocol):
    """Encoded groups and their lengths."""

    sizes: np.ndarray
    """Responses of each group."""
    longest_responses: np.ndarray
    """Tokens of the longest response of each group."""

    def __getitem__(self, indices: Sequence[int]) -> list[EncodedGroup]:
        """Return some."""


class GroupsOfBatch:
    """The candidates of every prompt of a batch, as groups."""

    def __init__(self, batch: CandidateBatch) -> None:
        prompts = [ids.tolist() for ids in torch.split(batch.prompt_ids, list(batch.prompt_lengths))]
        responses = [ids.tolist() for ids in torch.split(batch.response_ids, list(batch.response_lengths))]
        units: list[list[list[int]]] = [[] for _ in prompts]
        for prompt, response in zip(batch.prompt_of, responses, strict=True):
            units[prompt].append(response)
        self.rows = [
            EncodedGroup(str(n), prompt, own, [0] * len(own), [[]] * len(own), 1.0, [False] * len(own))
            for n, (prompt, own) in enumerate(zip(prompts, units, strict=True))
        ]
        self.sizes = np.array([len(own) for own in units])
        self.longest_responses = np.array([max(map(len, own)) for own in units])

    def __getitem__(self, indices: Sequence[int]) -> list[EncodedGroup]:
        return [self.rows[i] for i in indices]


def rows_to_check(groups: Groups, tokens: int) -> list[EncodedGroup]:
    """Return the first group with the most candidates and the one with the longest response, cut to `tokens` in all.

    Where prompts are read under instructions, the second one is.
    """
    several = int(np.argmax(groups.sizes))
    lengths = groups.longest_responses.copy()
    lengths[several] = -1
    longest = int(np.argmax(lengths))
    chosen = groups[[several] if len(lengths) == 1 else [several, longest]]
    chosen[-1] = _instructed(chosen[-1])
    shares = zip(chosen, (2, 1), strict=False)
    return [cut(group, tokens // len(chosen), fewest) for group, fewest in shares if group.response_ids]


def _instructed(group: EncodedGroup) -> EncodedGroup:
    """Return a group with its prompt under the first instruction, where there are instructions."""
    return group._replace(prompt_ids=list(group.instructed_ids[0])) if group.instructed_ids else group


def cut(group: EncodedGroup, tokens: int, fewest: int) -> EncodedGroup:
    """Return a group whose candidates, each with its prompt, have about so many tokens: fewer, then shorter ones."""
    order = sorted(range(len(group.response_ids)), key=lambda c: -len(group.response_ids[c]))
    kept = sorted(order[: min(MOST_CANDIDATES, max(tokens // 24, fewest))])
    each = tokens // len(kept)
    longest = len(group.response_ids[order[0]])
    response = max(min(longest, each - min(max(map(len, group.prompts)), each // 2)), 2)
    prompt = max(each - response, 2)
    weights = [group.response_weights[c][:response] for c in kept] if group.response_weights else []
    return group._replace(
        prompt_ids=group.prompt_ids[-prompt:],
        response_ids=[group.response_ids[c][:response] for c in kept],
        ranks=[group.ranks[c] for c in kept],
        scores=[group.scores[c] for c in kept],
        truncated=[group.truncated[c] for c in kept],
        instructed_ids=(),
        own_prompt_ids=[group.own_prompt_ids[c][-prompt:] for c in kept] if group.own_prompt_ids else (),
        response_weights=weights if all(map(any, weights)) else (),
    )


def tokens_to_check(model: Any, logit_bytes: int = 2**30) -> int:
    """Return how many tokens a check of this model may run through."""
    vocabulary: int = model.get_input_embeddings().num_embeddings
    most = min(MOST, logit_bytes // (16 * vocabulary))
    first = next(model.parameters())
    if first.device.type == "cpu":
        most = min(most, int(WORK / sum(p.numel() for p in model.parameters())))
    return max(most, FEWEST)
