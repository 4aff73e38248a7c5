"""Three ways to put candidate groups into a model's inputs; all give the same log-probabilities and gradients.

A prompt with n responses costs n(P + R) tokens in padded rows, and P + nR in shared rows and in a packed row, where
each response attends to its prompt and to itself only and positions restart after the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from align.records import CandidateBatch
from align.scoring.block_masks import block_mask
from align.scoring.packed_row import PackedRow
from align.scoring.placement import PLACEMENTS, BatchLengths, Bounds, Placement, scored_tokens
from align.transfer import to_device


class Plan(NamedTuple):
    """Model inputs of a batch, and where its scored tokens are found in the flattened hidden states.

    Scored tokens are ordered by candidate, so that those of one candidate form a run of `counts[candidate]`.
    """

    input_ids: Int[Tensor, "row position"]
    position_ids: Int[Tensor, "row position"]
    attention_mask: Tensor | None
    packed: PackedRow | None
    predictors: Int[Tensor, " token"]
    """Flat index of the state that predicts each scored token; a response's first token is predicted by its prompt."""
    targets: Int[Tensor, " token"]
    counts: Int[Tensor, " candidate"]
    last: Int[Tensor, " candidate"]
    """Flat index of each candidate's last token."""
    shifted: bool = False
    """Whether positions do not count from 0, so that the model must be told them."""
    lengths: tuple[int, ...] | None = None
    """Tokens of every padded row; None where a prompt's responses share a row."""


class _Request(NamedTuple):
    """All that decides where tokens stand and which are scored."""

    layout: str
    lengths: BatchLengths
    scored: bytes | None
    score_prompts: bool
    offsets: tuple[int, ...]


class _Indices(NamedTuple):
    """What a plan needs beside the tokens themselves: a function of lengths only, so policy and reference share it."""

    bounds: Bounds | None
    order: Tensor
    positions: Tensor
    part: Tensor
    predictors: Tensor
    targets: Tensor
    counts: Tensor
    last: Tensor
    ends: Tensor


def lay_out(batch: CandidateBatch, layout: str, *, score_prompts: bool = False, offsets: Sequence[int] = ()) -> Plan:
    """Return the plan of a batch in a layout.

    Args:
        batch: The candidates.
        layout: `padded`: one right-padded row per candidate, which causal attention needs no mask for. `shared`: one
            padded row per prompt, `[prompt | r1 | ... | rn]`, under a boolean 4-D mask (True: may attend). `packed`:
            everything in one row without padding, which needs our attention function.
        score_prompts: Whether prompt tokens after the first are scored too.
        offsets: So many positions further on every prompt, and its responses, are; none where all count from 0.
    """
    lengths = BatchLengths(*map(tuple, (batch.prompt_lengths, batch.response_lengths, batch.prompt_of)))
    scored = None if batch.response_weights is None else (batch.response_weights > 0).tobytes()
    shift = tuple(offsets) if any(offsets) else ()
    request = _Request(layout, lengths, scored, score_prompts, shift)
    found = _indices(request, batch.response_ids.device)
    tokens = torch.cat([batch.prompt_ids, batch.response_ids])
    ids = tokens[found.order.clamp(min=0)] if layout != "packed" else tokens[found.order]
    packed = None if found.bounds is None else PackedRow(found.bounds, found.ends.int())
    mask = _tree_mask(found.part) if layout == "shared" else None
    finished = (found.predictors, tokens[found.targets], found.counts, found.last)
    rows = zip(batch.prompt_of, batch.response_lengths, strict=True) if layout == "padded" else None
    widths = None if rows is None else tuple(batch.prompt_lengths[p] + length for p, length in rows)
    return Plan(ids, found.positions, mask, packed, *finished, shifted=bool(shift), lengths=widths)


@lru_cache(maxsize=8)
def _indices(wanted: _Request, device: torch.device) -> _Indices:
    """Return index tensors of a batch on its device; they travel in one piece."""
    lengths = wanted.lengths
    placed = PLACEMENTS[wanted.layout](lengths)
    marks = None if wanted.scored is None else np.frombuffer(wanted.scored, np.bool_)
    tokens = scored_tokens(lengths, placed, marks, score_prompts=wanted.score_prompts)
    last = placed.response_starts + np.asarray(lengths.responses) - 1
    positions = placed.positions + (_shift(lengths, placed, wanted.offsets) if wanted.offsets else 0)
    ends = np.asarray(sum(placed.bounds or (), ()), np.int64)
    parts = [placed.order, positions, placed.part, *tokens, last, ends]
    together = to_device(torch.from_numpy(np.concatenate([part.ravel() for part in parts])), device)
    there = list(torch.split(together, [part.size for part in parts]))
    there[:3] = [grid.view(placed.order.shape) for grid in there[:3]]
    return _Indices(placed.bounds, *there)


def forget_plans() -> None:
    """Forget the index tensors of earlier batches: those made under a mode of torch's are none for other calls."""
    _indices.cache_clear()
    block_mask.cache_clear()


def _shift(lengths: BatchLengths, placed: Placement, offsets: tuple[int, ...]) -> np.ndarray:
    """Return by how many positions each place is moved: as many as its prompt; padding moves with nothing."""
    prompts = np.arange(len(lengths.prompts))
    owner = np.concatenate(
        [np.repeat(prompts, lengths.prompts), np.repeat(np.asarray(lengths.prompt_of), lengths.responses)]
    )
    return np.where(placed.order < 0, 0, np.asarray(offsets)[owner][placed.order])


def _tree_mask(part: Int[Tensor, "row position"]) -> Tensor:
    """Return who may attend to whom in shared rows; padding attends to itself."""
    earlier = torch.ones(part.shape[1], part.shape[1], dtype=torch.bool, device=part.device).tril()
    same = part[:, :, None] == part[:, None, :]
    inside = (part[:, None, :] == 0) & (part[:, :, None] >= 0)
    open_ = (inside | (same & (part[:, None, :] >= 0))) & earlier
    return (open_ | torch.eye(part.shape[1], dtype=torch.bool, device=part.device))[:, None]


def count_positions(batch: CandidateBatch, layout: str) -> tuple[int, int]:
    """Return how many positions a layout computes for a batch, and how many of them hold a token."""
    if layout == "padded":
        pairs = zip(batch.prompt_of, batch.response_lengths, strict=True)
        rows = [batch.prompt_lengths[p] + length for p, length in pairs]
    else:
        rows = list(batch.prompt_lengths)
        for prompt, length in zip(batch.prompt_of, batch.response_lengths, strict=True):
            rows[prompt] += length
    return sum(rows) if layout == "packed" else len(rows) * max(rows), sum(rows)


LAYOUTS = tuple(PLACEMENTS)
