"""Where the tokens of prompts and responses stand in a model's rows: arithmetic on their lengths alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


class BatchLengths(NamedTuple):
    """Lengths of a batch: those of its prompts and responses, and which prompt each response answers."""

    prompts: tuple[int, ...]
    responses: tuple[int, ...]
    prompt_of: tuple[int, ...]


class Bounds(NamedTuple):
    """How a packed row is cut: where each part begins, counted from the start of its kind, and the end."""

    prompts: tuple[int, ...]
    """Shared prompts, at the row's beginning."""
    trees: tuple[int, ...]
    """The responses of each shared prompt, after all prompts."""
    rows: tuple[int, ...]
    """The same responses one by one, then every candidate that shares no prompt, prompt and response in one."""


class Placement(NamedTuple):
    """Tokens in rows; `token` counts prompts first, then responses, as a batch holds them."""

    order: Int[Ints, "row position"]
    """Which token stands where, -1 in padding."""
    positions: Int[Ints, "row position"]
    part: Int[Ints, "row position"]
    """0 in a prompt, 1 + candidate in a response, -1 in padding."""
    prompt_starts: Int[Ints, " candidate"]
    """Flat place where each candidate's prompt begins."""
    response_starts: Int[Ints, " candidate"]
    bounds: Bounds | None = None


class ScoredTokens(NamedTuple):
    """Scored tokens, candidate after candidate."""

    predictors: Int[Ints, " token"]
    """Flat place of the state that predicts each."""
    targets: Int[Ints, " token"]
    """The token itself, counted as in Placement."""
    counts: Int[Ints, " candidate"]


def ranges(starts: ArrayLike, lengths: ArrayLike) -> Ints:
    """Return start, start + 1, ... of every range, one after another."""
    lengths = np.asarray(lengths, np.int64)
    before = np.cumsum(lengths) - lengths
    return np.repeat(np.asarray(starts, np.int64) - before, lengths) + np.arange(lengths.sum())


def _starts(lengths: Ints) -> Ints:
    return np.cumsum(lengths) - lengths


def _arrays(lengths: BatchLengths) -> tuple[Ints, Ints, Ints]:
    prompts, responses, prompt_of = (np.asarray(part, np.int64) for part in lengths)
    return prompts, responses, prompt_of


def padded(lengths: BatchLengths) -> Placement:
    """One right-padded row per candidate."""
    prompts, responses, prompt_of = _arrays(lengths)
    width = int((prompts[prompt_of] + responses).max())
    begin = np.arange(len(responses)) * width
    return _fill(lengths, (len(responses), width), begin, begin + prompts[prompt_of])


def shared(lengths: BatchLengths) -> Placement:
    """One right-padded row per prompt, `[prompt | response 1 | ... | response n]`."""
    prompts, responses, prompt_of = _arrays(lengths)
    before, totals = _among_siblings(responses, prompt_of, len(prompts))
    width = int((prompts + totals).max())
    begin = prompt_of * width
    return _fill(lengths, (len(prompts), width), begin, begin + prompts[prompt_of] + before)


def packed(lengths: BatchLengths) -> Placement:
    """All in one row: prompts that responses share, then these responses, then the rows of all other candidates."""
    prompts, responses, prompt_of = _arrays(lengths)
    is_shared = (np.bincount(prompt_of, minlength=len(prompts)) > 1) & (prompts > 0)
    shares = is_shared[prompt_of]
    before, totals = _among_siblings(responses * shares, prompt_of, len(prompts))
    prompt_begin = _starts(prompts * is_shared)
    prompt_end = int((prompts * is_shared).sum())
    tree_begin = prompt_end + _starts(totals * is_shared)
    alone = np.where(shares, 0, prompts[prompt_of] + responses)
    alone_begin = prompt_end + int(totals.sum()) + _starts(alone)
    begin = np.where(shares, prompt_begin[prompt_of], alone_begin)
    response_begin = np.where(shares, tree_begin[prompt_of] + before, alone_begin + prompts[prompt_of])
    together = np.argsort(prompt_of, kind="stable")
    together = together[shares[together]]
    rows = np.concatenate([responses[together], alone[~shares]])
    bounds = Bounds(_cumulative(prompts[is_shared]), _cumulative(totals[is_shared]), _cumulative(rows))
    size = prompt_end + int(totals.sum() + alone.sum())
    return _fill(lengths, (1, size), begin, response_begin)._replace(bounds=bounds)


PLACEMENTS: dict[str, Callable[[BatchLengths], Placement]] = {"padded": padded, "shared": shared, "packed": packed}


def _cumulative(lengths: Ints) -> tuple[int, ...]:
    return (0, *np.cumsum(lengths).tolist())


def _among_siblings(responses: Ints, prompt_of: Ints, prompts: int) -> tuple[Ints, Ints]:
    """Return the tokens of a prompt's responses before each, and of all of them."""
    together = np.argsort(prompt_of, kind="stable")
    sums = np.zeros_like(responses)
    sums[together] = _starts(responses[together])
    totals = np.bincount(prompt_of, responses, minlength=prompts).astype(np.int64)
    return sums - _starts(totals)[prompt_of], totals


def _fill(lengths: BatchLengths, shape: tuple[int, int], begin: Ints, response_begin: Ints) -> Placement:
    """Put prompts and responses where they begin; a prompt that several candidates share in one place is put once."""
    prompts, responses, prompt_of = _arrays(lengths)
    order, positions, part = np.full(shape, -1), np.zeros(shape, np.int64), np.full(shape, -1)
    _, once = np.unique(begin * len(prompts) + prompt_of, return_index=True)
    owner = prompt_of[once]
    places = ranges(begin[once], prompts[owner])
    order.flat[places] = ranges(_starts(prompts)[owner], prompts[owner])
    positions.flat[places] = ranges(np.zeros(len(owner)), prompts[owner])
    part.flat[places] = 0
    places = ranges(response_begin, responses)
    order.flat[places] = prompts.sum() + np.arange(responses.sum())
    positions.flat[places] = ranges(prompts[prompt_of], responses)
    part.flat[places] = np.repeat(np.arange(len(responses)) + 1, responses)
    return Placement(order, positions, part, begin, response_begin)


def scored_tokens(
    lengths: BatchLengths, placed: Placement, scored: NDArray[np.bool_] | None, *, score_prompts: bool
) -> ScoredTokens:
    """Return the scored tokens: those of responses, or those of them that are marked, and on demand those of prompts.

    A prompt's last token predicts the first of a response; what nothing predicts, the first token of all, is not
    scored.
    """
    prompts, responses, prompt_of = _arrays(lengths)
    own = prompts[prompt_of]
    first_token = _starts(prompts)[prompt_of]
    first_response = prompts.sum() + _starts(responses)
    some = np.minimum(own, 1)
    parts = np.stack([np.maximum(own - 1, 0) * score_prompts, some, responses - 1], 1).ravel()
    predictors = np.stack([placed.prompt_starts, placed.prompt_starts + own - 1, placed.response_starts], 1).ravel()
    targets = np.stack([first_token + 1, first_response, first_response + 1], 1).ravel()
    counts = parts.reshape(-1, 3).sum(1)
    found = ScoredTokens(ranges(predictors, parts), ranges(targets, parts), counts)
    if scored is None:
        return found
    inside = found.targets - prompts.sum()
    kept = (inside < 0) | scored[np.maximum(inside, 0)]
    owner = np.repeat(np.arange(len(counts)), counts)
    return ScoredTokens(found.predictors[kept], found.targets[kept], np.bincount(owner[kept], minlength=len(counts)))
