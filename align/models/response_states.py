"""States of responses: what representation methods compare, read at chosen layers in any layout."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from align.activations import ActivationRecorder, decoder_parts
from align.errors import ModelError
from align.records import CandidateBatch
from align.scoring.decoder import choose_layout, hidden_states, unwrapped
from align.scoring.layouts import Plan, lay_out
from align.transfer import to_device


class ResponseStates(NamedTuple):
    """States of every candidate's last prompt token and of all its response tokens, candidate after candidate.

    The order is the same under any instruction, so that tokens align although prompts differ.
    """

    values: Float[Tensor, "layer token hidden"]
    in_prompt: Bool[Tensor, " token"]
    """True for the last prompt token of each candidate: its state predicts the response's first token."""
    counts: tuple[int, ...]
    """Tokens of each candidate, the prompt's one included."""

    def response_means(self) -> Float[Tensor, "candidate layer hidden"]:
        """Return the mean state of each response, in float32."""
        parts = torch.split(self.values.float(), list(self.counts), dim=1)
        return torch.stack([part[:, 1:].mean(1) for part in parts])


class RepresentationTargets(NamedTuple):
    """What the frozen passes give: plain states and difference vectors."""

    base: Float[Tensor, "layer token hidden"]
    difference: Float[Tensor, "layer token hidden"]


def response_states(
    model: nn.Module,
    batch: CandidateBatch,
    layers: Sequence[int],
    *,
    layout: str = "auto",
    begin: Sequence[int] | None = None,
) -> ResponseStates:
    """Run a model up to the highest layer and return the states of all responses.

    `begin` is the position at which the responses of each prompt start; it matters to learned positions only, where a
    response under prompts of different lengths would otherwise differ by its position. Raises ModelError for a model
    that has learned positions and cannot be told them.
    """
    name = choose_layout(model, batch, layout)
    offsets: list[int] = []
    if begin is not None and (parts := decoder_parts(model)).absolute_positions:
        if not parts.takes_positions:
            raise ModelError(
                f"model type {unwrapped(model).config.model_type} has learned positions and counts them by itself, so "
                "that a response stands elsewhere under instructions of other lengths and its states differ by that: "
                "take another model, or RAHFDualModule with prompts.dual_instruction same"
            )
        offsets = [start - length for start, length in zip(begin, batch.prompt_lengths, strict=True)]
    laid_out = lay_out(batch, name, offsets=offsets)
    with ActivationRecorder(model, layers, _positions(laid_out, batch)) as tap:
        hidden_states(model, laid_out)
    counts = tuple(length + 1 for length in batch.response_lengths)
    in_prompt = torch.zeros(sum(counts), dtype=torch.bool)
    in_prompt[list(itertools.accumulate((0, *counts[:-1])))] = True
    return ResponseStates(tap.states(), to_device(in_prompt, batch.response_ids.device), counts)


def reading_vector(above: Tensor, below: Tensor) -> Tensor:
    """Return a - b in float32 (float64 stays)."""
    wide = torch.promote_types(above.dtype, torch.float32)
    return above.to(wide) - below.to(wide)


def _positions(laid_out: Plan, batch: CandidateBatch) -> Tensor:
    """Return the flat positions: what predicts a response (its prompt's end, its tokens but one), and its last."""
    runs = torch.split(laid_out.predictors, list(batch.response_lengths))
    pieces = zip(runs, torch.split(laid_out.last, 1), strict=True)
    return torch.cat([piece for pair in pieces for piece in pair])
