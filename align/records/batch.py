"""One batch of tensors for every method: a flat list of candidates in groups."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from align.records.candidate_matrix import matrix_of, of_each
from align.records.group import (
    EncodedGroup,
    StepTotals,
    counts_of,
    prompt_of_each,
    shared_prompt,
    token_weights,
    totals_of,
)
from align.records.labels import column_of
from align.records.other_tokens import Foreign, PromptTokens
from align.transfer import each, tensor_on, with_source


class CandidateBatch(NamedTuple):
    """A flat list of candidates; those of one group stand next to each other, best first.

    Tokens are ragged: nothing is padded before a layout is chosen. Lengths stay Python numbers, so reading them never
    waits for a device.
    """

    prompt_ids: Int[Tensor, " prompt_token"]
    response_ids: Int[Tensor, " response_token"]
    prompt_lengths: tuple[int, ...]
    response_lengths: tuple[int, ...]
    prompt_of: tuple[int, ...]
    """Index of each candidate's prompt; candidates may share one."""
    group_sizes: tuple[int, ...]
    ranks: Int[Tensor, " candidate"]
    scores: Float[Tensor, "candidate attribute"]
    weights: Float[Tensor, " group"]
    ids: tuple[str, ...]
    totals: StepTotals
    attributes: tuple[str, ...] = ()
    """Names of the columns of `scores`, which hold NaN where a response has no label."""
    instructed: tuple[PromptTokens, ...] = ()
    """The prompts under each instruction, good before bad; none where a method has no instructions."""
    response_weights: Float[NDArray[np.float32], " response_token"] | None = None
    """How much each response token counts; one of weight 0 is read and not scored. None where all count 1. It stays on
    the CPU, as lengths do: it decides which states are read."""
    padding: bool = False
    """Whether it counts nothing, and is only there so that every process computes something."""
    foreign: Foreign | None = None
    """Where the method reads responses under other prompts."""

    @classmethod
    def of(
        cls, groups: Sequence[EncodedGroup], totals: StepTotals | None = None, attributes: Sequence[str] = ()
    ) -> CandidateBatch:
        """Put groups into one batch. Without `totals` the batch counts as a whole optimiser step.

        Raises ValueError for a response without tokens: encoders never make one.
        """
        responses = [r for g in groups for r in g.response_ids]
        if not all(responses):
            raise ValueError(f"a response of {[g.id for g in groups if not all(g.response_ids)]} has no tokens")
        scores = [s for g in groups for s in g.scores]
        width = max((len(s) for s in scores), default=0)
        prompts = [p for g in groups for p in g.prompts]
        weights = [w for g in groups for w in token_weights(g)] if any(g.response_weights for g in groups) else None
        return cls(
            prompt_ids=torch.tensor([t for p in prompts for t in p], dtype=torch.long),
            response_ids=torch.tensor([t for r in responses for t in r], dtype=torch.long),
            prompt_lengths=tuple(map(len, prompts)),
            response_lengths=tuple(map(len, responses)),
            prompt_of=shared_prompt(groups),
            group_sizes=tuple(len(g.response_ids) for g in groups),
            ranks=torch.tensor([r for g in groups for r in g.ranks], dtype=torch.long),
            scores=torch.tensor([s + [math.nan] * (width - len(s)) for s in scores]).reshape(len(responses), width),
            weights=torch.tensor([g.weight for g in groups]),
            ids=tuple(g.id for g in groups),
            totals=totals or totals_of(map(counts_of, groups)),
            attributes=tuple(attributes),
            instructed=tuple(
                PromptTokens(torch.tensor([t for p in prompts for t in p], dtype=torch.long), tuple(map(len, prompts)))
                for prompts in zip(*(g.instructed_ids for g in groups), strict=True)
            ),
            response_weights=None if weights is None else np.array(weights, np.float32),
        )

    def to(self, device: torch.device | str) -> CandidateBatch:
        """Return the batch on a device, without waiting for it: what Lightning calls; `on_cpu` has what it was."""
        return each(self, Tensor, lambda values: with_source(values, device))

    def as_padding(self) -> CandidateBatch:
        """Return a batch that is computed and counts nothing."""
        foreign = self.foreign and self.foreign._replace(real=(False,) * len(self.foreign.real))
        return self._replace(weights=torch.zeros_like(self.weights), padding=True, foreign=foreign)

    def beside(self, groups: Sequence[EncodedGroup], others: Sequence[EncodedGroup]) -> CandidateBatch:
        """Return the batch of these groups with the responses of as many other ones, which have as many each."""
        pairs = [
            (prompt, own, prompt_there, response)
            for group, other in zip(groups, others, strict=True)
            for prompt, own, prompt_there, response in zip(
                prompt_of_each(group), group.response_ids, prompt_of_each(other), other.response_ids, strict=True
            )
        ]
        foreign = Foreign(
            ids=torch.tensor([t for *_, response in pairs for t in response], dtype=torch.long),
            lengths=tuple(len(response) for *_, response in pairs),
            real=tuple(prompt != there and own != response for prompt, own, there, response in pairs),
        )
        return self._replace(foreign=foreign)

    def under(self, instruction: int) -> CandidateBatch:
        """Return the batch with its prompts under an instruction, 0 the good and 1 the bad one."""
        prompts = self.instructed[instruction]
        return self._replace(prompt_ids=prompts.ids, prompt_lengths=prompts.lengths)

    def only(self, place: int) -> CandidateBatch:
        """Return the batch with one candidate of every group, by its place; the totals stay those of the step."""
        ends = list(itertools.accumulate(self.group_sizes))
        kept = [end - size + place for end, size in zip(ends, self.group_sizes, strict=True)]
        lengths = list(self.response_lengths)
        responses, own = torch.split(self.response_ids, lengths), tensor_on(self.ranks.device, kept)
        weights = None if self.response_weights is None else np.split(self.response_weights, np.cumsum(lengths)[:-1])
        return self._kept_prompts(sorted({self.prompt_of[c] for c in kept}))._replace(
            response_ids=torch.cat([responses[c] for c in kept]),
            response_lengths=tuple(self.response_lengths[c] for c in kept),
            prompt_of=tuple(range(len(kept))),
            response_weights=None if weights is None else np.concatenate([weights[c] for c in kept]),
            group_sizes=(1,) * len(kept),
            ranks=self.ranks[own],
            scores=self.scores[own],
        )

    def _kept_prompts(self, kept: Sequence[int]) -> CandidateBatch:
        """Return the batch with some of its prompts."""
        if len(kept) == len(self.prompt_lengths):
            return self
        prompts = torch.split(self.prompt_ids, list(self.prompt_lengths))
        lengths = tuple(self.prompt_lengths[p] for p in kept)
        return self._replace(prompt_ids=torch.cat([prompts[p] for p in kept]), prompt_lengths=lengths)

    @property
    def num_candidates(self) -> int:
        """Return the number of candidates."""
        return len(self.response_lengths)

    def matrix(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Return per-candidate values as `[group, candidate]`, missing cells filled."""
        return matrix_of(values, self.group_sizes, fill)

    def mask(self, device: torch.device | str = "cpu") -> Bool[Tensor, "group candidate"]:
        """Return which cells of a matrix hold a candidate."""
        return self.matrix(torch.ones(self.num_candidates, dtype=torch.bool, device=device))

    def labels(self, attribute: str | Sequence[str] | None = None) -> Float[Tensor, " candidate"]:
        """Return the labels under a name, the mean of those under several, or for None the only ones.

        Data without labels gives NaN for None. Raises ConfigError for a name that is not there.
        """
        if attribute is None and self.scores.shape[1] < 2:
            return self.scores[:, 0] if self.scores.shape[1] else torch.full_like(self.scores.sum(1), torch.nan)
        names = [attribute] if attribute is None or isinstance(attribute, str) else attribute
        return torch.stack([self.scores[:, column_of(self.attributes, name)] for name in names], dim=1).mean(1)

    def columns(self, attributes: Sequence[str]) -> Float[Tensor, "candidate attribute"]:
        """Return the scores with one column per given attribute, NaN for those the data does not have."""
        if tuple(attributes) == self.attributes:
            return self.scores
        missing = torch.full_like(self.scores[:, :1].sum(1), torch.nan)
        return torch.stack([self.labels(name) if name in self.attributes else missing for name in attributes], dim=1)

    def places(self) -> list[tuple[str, int]]:
        """Return the group id of every candidate and its place in the group."""
        return [(name, n) for name, size in zip(self.ids, self.group_sizes, strict=True) for n in range(size)]

    def candidate_weights(self) -> Float[Tensor, " candidate"]:
        """Return the weight of each candidate's group."""
        return of_each(self.weights, self.group_sizes)
