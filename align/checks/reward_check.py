"""The self-check of a reward model that scores responses: before its first scores, on the rows it is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from align.checks.checked_rows import cut, tokens_to_check
from align.checks.layout_check import REWARDS, LayoutCheck, refuse_layouts
from align.records import CandidateBatch, EncodedGroup
from align.scoring.decoder import unwrapped

MOST_ROWS = 64


def few(groups: Sequence[EncodedGroup], model: nn.Module) -> CandidateBatch:
    """Return the shortest and the longest of the first groups, of one response each, cut to what a check may cost."""
    by_length = sorted(groups[:MOST_ROWS], key=length_of)
    rows = [cut(group, tokens_to_check(model) // 2, 1) for group in (by_length[0], by_length[-1])]
    return on_device(CandidateBatch.of(rows), next(model.parameters()).device)


def check_rewards(model: nn.Module, path: str, batch: CandidateBatch) -> str:
    """Compare a sequence classifier's scores with those of its own forward pass, in the mode it scores in.

    Layouts that differ are refused from then on, and what was found is returned. Raises ModelError where all differ;
    `path` is the folder, for the warning.
    """
    verdict = LayoutCheck(model, REWARDS, gradients=False, everywhere=False)(batch)
    if verdict.refused:
        warnings.warn(verdict.warning(f"reward model {path}"), stacklevel=2)
        refuse_layouts([unwrapped(model)], list(verdict.refused))
    return str(verdict)


def length_of(group: EncodedGroup) -> int:
    """Return the tokens of a prompt and its first response."""
    return len(group.prompt_ids) + len(group.response_ids[0])


def on_device(batch: CandidateBatch, device: str | torch.device) -> CandidateBatch:
    """Return a batch with what a reward model reads of it on a device."""
    return batch._replace(prompt_ids=batch.prompt_ids.to(device), response_ids=batch.response_ids.to(device))
