"""Three ways to put candidate groups into a model's inputs; all give the same log-probabilities and gradients.

A prompt with n responses costs n(P + R) tokens in padded rows, and P + nR in shared rows and packed segments, where
each response attends to its prompt and to itself only and positions restart after the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from align.records import CandidateBatch
from align.scoring.segment_attention import Segments


class Plan(NamedTuple):
    """Model inputs of a batch, and where its scored tokens are found in the flattened hidden states.

    Scored tokens are ordered by candidate, so that those of one candidate form a run of `counts[candidate]`.
    """

    input_ids: Int[Tensor, "row position"]
    position_ids: Int[Tensor, "row position"]
    attention_mask: Tensor | None
    segments: Segments | None
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


Layout = Callable[[CandidateBatch, bool], Plan]


class _Spans(NamedTuple):
    """Flat start of the prompt and of the response of every candidate."""

    prompt: list[int]
    response: list[int]


def _units(batch: CandidateBatch) -> list[list[int]]:
    """Return the candidates of each prompt."""
    units: list[list[int]] = [[] for _ in batch.prompt_lengths]
    for candidate, prompt in enumerate(batch.prompt_of):
        units[prompt].append(candidate)
    return units


def _finish(batch: CandidateBatch, spans: _Spans, score_prompts: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return predictors, targets, counts and last of a plan from where its prompts and responses begin."""
    prompts = torch.split(batch.prompt_ids, list(batch.prompt_lengths))
    responses = torch.split(batch.response_ids, list(batch.response_lengths))
    scored = None if batch.response_weights is None else batch.response_weights.cpu() > 0
    masks = None if scored is None else torch.split(scored, list(batch.response_lengths))
    predictors, targets, counts = [], [], []
    for c, (start, length) in enumerate(zip(spans.response, batch.response_lengths, strict=True)):
        prompt_length = batch.prompt_lengths[batch.prompt_of[c]]
        if score_prompts:
            predictors.append(torch.arange(spans.prompt[c], spans.prompt[c] + prompt_length - 1))
            targets.append(prompts[batch.prompt_of[c]][1:])
        own = torch.cat([torch.tensor([spans.prompt[c] + prompt_length - 1]), torch.arange(start, start + length - 1)])
        predictors.append(own if masks is None else own[masks[c]])
        targets.append(responses[c] if masks is None else responses[c][masks[c].to(responses[c].device)])
        counts.append(len(predictors[-1]) + (prompt_length - 1 if score_prompts else 0))
    device = batch.response_ids.device
    last = torch.tensor([s + n - 1 for s, n in zip(spans.response, batch.response_lengths, strict=True)])
    return torch.cat(predictors).to(device), torch.cat(targets), torch.tensor(counts, device=device), last.to(device)


def padded_rows(batch: CandidateBatch, score_prompts: bool = False) -> Plan:
    """One right-padded row per candidate. Padding stands after every real token, so causal attention needs no mask."""
    prompts = torch.split(batch.prompt_ids, list(batch.prompt_lengths))
    responses = torch.split(batch.response_ids, list(batch.response_lengths))
    rows = [torch.cat([prompts[p], r]) for p, r in zip(batch.prompt_of, responses, strict=True)]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    width = ids.shape[1]
    starts = [row * width for row in range(len(rows))]
    spans = _Spans(starts, [s + batch.prompt_lengths[p] for s, p in zip(starts, batch.prompt_of, strict=True)])
    positions = torch.arange(width, device=ids.device).expand_as(ids)
    finished = _finish(batch, spans, score_prompts)
    return Plan(ids, positions, None, None, *finished, lengths=tuple(map(len, rows)))


def shared_rows(batch: CandidateBatch, score_prompts: bool = False) -> Plan:
    """One padded row per prompt, `[prompt | r1 | ... | rn]`, under a boolean 4-D mask (True: may attend)."""
    ids, positions, segments = _share(batch)
    width = max(len(row) for row in ids)
    mask = torch.eye(width, dtype=torch.bool).repeat(len(ids), 1, 1, 1)
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    spans = _Spans([0] * batch.num_candidates, [0] * batch.num_candidates)
    for row, unit in enumerate(_units(batch)):
        prompt = batch.prompt_lengths[row]
        mask[row, 0, :prompt, :prompt] = causal[:prompt, :prompt]
        for c in unit:
            start, stop = segments[c], segments[c] + batch.response_lengths[c]
            mask[row, 0, start:stop, :prompt] = True
            mask[row, 0, start:stop, start:stop] = causal[: stop - start, : stop - start]
            spans.prompt[c], spans.response[c] = row * width, row * width + start
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    padded_positions = torch.nn.utils.rnn.pad_sequence(positions, batch_first=True).to(padded.device)
    finished = _finish(batch, spans, score_prompts)
    return Plan(padded, padded_positions, mask.to(padded.device), None, *finished)


def packed_segments(batch: CandidateBatch, score_prompts: bool = False) -> Plan:
    """Everything in one row without padding; attention runs segment by segment and needs our attention function."""
    ids, positions, offsets = _share(batch)
    spans = _Spans([0] * batch.num_candidates, [0] * batch.num_candidates)
    trees, start = [], 0
    for prompt, unit in enumerate(_units(batch)):
        for c in unit:
            spans.prompt[c], spans.response[c] = start, start + offsets[c]
        responses = tuple((spans.response[c], batch.response_lengths[c]) for c in unit)
        trees.append((start, batch.prompt_lengths[prompt], responses))
        start += len(ids[prompt])
    flat, flat_positions = torch.cat(ids)[None], torch.cat(positions).to(ids[0].device)[None]
    return Plan(flat, flat_positions, None, Segments(trees), *_finish(batch, spans, score_prompts))


def _share(batch: CandidateBatch) -> tuple[list[Tensor], list[Tensor], list[int]]:
    """Return ids and positions of each prompt's row, and where in its row each candidate begins."""
    prompts = torch.split(batch.prompt_ids, list(batch.prompt_lengths))
    responses = torch.split(batch.response_ids, list(batch.response_lengths))
    ids, positions, offsets = [], [], [0] * batch.num_candidates
    for prompt, unit in enumerate(_units(batch)):
        length = end = batch.prompt_lengths[prompt]
        places = [torch.arange(length)]
        for c in unit:
            offsets[c] = end
            places.append(torch.arange(length, length + batch.response_lengths[c]))
            end += batch.response_lengths[c]
        ids.append(torch.cat([prompts[prompt], *(responses[c] for c in unit)]))
        positions.append(torch.cat(places))
    return ids, positions, offsets


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


def shift_positions(plan: Plan, batch: CandidateBatch, layout: str, offsets: Sequence[int]) -> Plan:
    """Return the plan with every prompt, and its responses, so many positions further on."""
    if not any(offsets):
        return plan
    shift = torch.tensor(offsets)
    if layout == "packed":
        units = zip(batch.prompt_lengths, _units(batch), strict=True)
        lengths = torch.tensor([p + sum(batch.response_lengths[c] for c in unit) for p, unit in units])
        shift = shift.repeat_interleave(lengths)[None]
    else:
        shift = shift[:, None] if layout == "shared" else shift[list(batch.prompt_of)][:, None]
    return plan._replace(position_ids=plan.position_ids + shift.to(plan.position_ids.device), shifted=True)


LAYOUTS: dict[str, Layout] = {"padded": padded_rows, "shared": shared_rows, "packed": packed_segments}
