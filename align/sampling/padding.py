"""Padding in front of prompts: what its rows hold is read by nobody, but has to be a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from align.scoring.packed_names import PLAIN_NAMES


@contextmanager
def padding_sees_something() -> Iterator[None]:
    """Let positions that may look at nothing look at everything, under eager attention.

    Eager attention adds the smallest number of the model's dtype to a closed score and takes the softmax in float32:
    of float64, and of float16 beside a negative score, that number is minus infinity there. A row of nothing else comes
    out as NaN, and as a value in the next layer it makes NaN of every row that it is closed to.
    """
    masks = ALL_MASK_ATTENTION_FUNCTIONS
    eager = ["eager", *(name for name, like in PLAIN_NAMES.items() if like == "eager" and name in masks)]
    kept = {name: masks[name] for name in eager}
    for name, build in kept.items():
        masks[name] = partial(_opened, build)
    try:
        yield
    finally:
        for name, build in kept.items():
            masks[name] = build


def _opened(build: Callable[..., Tensor | None], *args: Any, **options: Any) -> Tensor | None:
    """Return a mask with the rows that are closed altogether opened."""
    mask = build(*args, **options)
    return mask if mask is None else mask.masked_fill((mask < 0).all(-1, keepdim=True), 0.0)
