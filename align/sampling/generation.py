"""Sampling with `generate` of transformers: batches of left-padded prompts, reproducible by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from align.errors import ConfigError


@dataclass(frozen=True)
class Generation:
    """How completions are drawn."""

    max_new_tokens: int = 128
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """0 takes the most probable token."""
    top_p: float = 1.0
    """Draw from the smallest set of tokens with this probability."""
    num_samples: int = 1
    """Completions per prompt."""
    seed: int = 0
    """Another seed draws other completions."""
    batch_size: int = 16
    """Rows generated at a time."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.num_samples < 1 or self.batch_size < 1:
            raise ConfigError("max_new_tokens, num_samples and batch_size must be at least 1")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ConfigError(
                f"temperature must not be negative and top_p lie in (0, 1], got {self.temperature}, {self.top_p}"
            )
        if self.temperature == 0 and self.num_samples > 1:
            raise ConfigError("temperature 0 draws the same completion every time: set num_samples to 1")


class Sample(NamedTuple):
    """One completion."""

    prompt: int
    """Index of its prompt."""
    ids: list[int]
    """Token ids, the one that ended it included."""
    text: str
    """Decoded without special tokens, cut at the first stop string."""
    finished: bool
    """Whether it ended by itself."""


@torch.no_grad()
def sample(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    settings: Generation,
    *,
    eos_ids: Sequence[int],
    stop: Sequence[str] = (),
    progress: Callable[[int], object] = lambda count: None,
) -> list[Sample]:
    """Return `num_samples` completions of each prompt, in the order of the prompts.

    Prompts of similar length share a batch. The global random stream is left as it was. `progress` is told how many
    completions each batch added.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    step = max(settings.batch_size // settings.num_samples, 1)
    found: list[Sample] = []
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for first in range(0, len(order), step):
            chosen = order[first : first + step]
            torch.manual_seed(settings.seed * 1_000_003 + first)
            rows = _generate(model, [prompts[i] for i in chosen], settings, eos_ids)
            owners = [i for i in chosen for _ in range(settings.num_samples)]
            found += [_finish(tokenizer, i, row, eos_ids, stop) for i, row in zip(owners, rows.tolist(), strict=True)]
            progress(len(owners))
    return sorted(found, key=lambda s: s.prompt)


def _generate(model: Any, prompts: list[Sequence[int]], settings: Generation, eos_ids: Sequence[int]) -> Tensor:
    """Return the new tokens of every row, right-padded with the first EOS."""
    width = max(map(len, prompts))
    device = next(model.parameters()).device
    pad = eos_ids[0]
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    drawn = {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
    output: Tensor = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=settings.max_new_tokens,
        num_return_sequences=settings.num_samples,
        eos_token_id=list(eos_ids),
        pad_token_id=pad,
        use_cache=True,
        **(drawn if settings.temperature > 0 else {"do_sample": False}),
    )
    return output[:, width:]


def _finish(tokenizer: Any, prompt: int, row: list[int], eos_ids: Sequence[int], stop: Sequence[str]) -> Sample:
    ends = [place for place, token in enumerate(row) if token in eos_ids]
    ids = row[: ends[0] + 1] if ends else row
    text = tokenizer.decode(ids, skip_special_tokens=True)
    cuts = [place for mark in stop if (place := text.find(mark)) >= 0]
    return Sample(prompt, ids, text[: min(cuts)] if cuts else text, bool(ends or cuts))
