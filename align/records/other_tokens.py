"""Tokens that stand in a batch beside its own prompts and responses."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor


class PromptTokens(NamedTuple):
    """The prompts of a batch under one instruction."""

    ids: Int[Tensor, " prompt_token"]
    lengths: tuple[int, ...]


class Foreign(NamedTuple):
    """A response to another prompt of the step for every candidate."""

    ids: Int[Tensor, " foreign_token"]
    lengths: tuple[int, ...]
    real: tuple[bool, ...]
    """Whether both the prompt and the response are others; false in padding."""
