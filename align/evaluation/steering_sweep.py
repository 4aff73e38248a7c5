"""Steering measured: rewards, divergence, length and repetition of completions over coefficients."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn, no_grad

from align.activations.steering import Steering, steered
from align.evaluation.gold_evaluation import per_prompt
from align.evaluation.statistics import Interval
from align.models.adapters import evaluating
from align.records import CandidateBatch, EncodedGroup
from align.sampling.generation import Generation, Sample
from align.sampling.sampler import sample
from align.scoring import score_responses

Rewards = Callable[[Sequence[int], Sequence[str]], Mapping[str, Sequence[float]]]
"""From indices of prompts and their completions to rewards by name; NaN where there is none."""


class SteeringPoint(NamedTuple):
    """What a model does under one coefficient."""

    coefficient: float
    rewards: dict[str, Interval]
    """By name; a completion without a reward is left out."""
    kl: Interval
    """Mean log-ratio to the model without steering, over whole completions, in nats; sound at temperature 1."""
    tokens: float
    """Mean length."""
    repetition: float
    """Mean share of word trigrams that occurred before in their completion."""
    compression: float
    """Size of all completions together over their compressed size: rises when they become alike."""
    finished: float
    """Share that ended by themselves."""


def sweep(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    vectors: Mapping[int, Tensor],
    coefficients: Sequence[float],
    *,
    generation: Generation,
    eos_ids: Sequence[int],
    rewards: Rewards | None = None,
) -> list[SteeringPoint]:
    """Sample from a model under each coefficient, at all positions and with the same random numbers, and measure."""
    points = []
    for coefficient in coefficients:
        with evaluating(model):
            with steered(model, vectors, Steering(coefficient)):
                drawn = sample(model, tokenizer, prompts, generation, eos_ids=eos_ids)
                above = _logprobs(model, prompts, drawn)
            below = _logprobs(model, prompts, drawn)
        owners, texts = [s.prompt for s in drawn], [s.text for s in drawn]
        found = {} if rewards is None else rewards(owners, texts)
        points.append(
            SteeringPoint(
                coefficient,
                {name: _known(values, owners) for name, values in found.items()},
                per_prompt([a - b for a, b in zip(above, below, strict=True)], owners),
                fmean(len(s.ids) for s in drawn),
                fmean(repeated(text) for text in texts),
                compressibility(texts),
                fmean(s.finished for s in drawn),
            )
        )
    return points


def _known(values: Sequence[float], owners: Sequence[int]) -> Interval:
    kept = [(value, owner) for value, owner in zip(values, owners, strict=True) if not math.isnan(value)]
    return per_prompt(*zip(*kept, strict=True)) if kept else Interval(math.nan, math.nan, math.nan)


def repeated(text: str, size: int = 3) -> float:
    """Return the share of word n-grams that occurred before, 0 for a text too short to have two."""
    words = text.split()
    grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if len(grams) > 1 else 0.0


def compressibility(texts: Sequence[str]) -> float:
    """Return size over compressed size of all texts together."""
    joined = "\n".join(texts).encode()
    return len(joined) / max(len(zlib.compress(joined)), 1)


@no_grad()
def _logprobs(model: nn.Module, prompts: Sequence[Sequence[int]], samples: Sequence[Sample]) -> list[float]:
    """Return log-probabilities in rows of their own, so that steering sees prompt and completion as in sampling."""
    device = next(model.parameters()).device
    found: list[float] = []
    for first in range(0, len(samples), 64):
        groups = [
            EncodedGroup("", list(prompts[s.prompt]), [s.ids], [0], [[]], 1.0, [not s.finished])
            for s in samples[first : first + 64]
        ]
        batch = move_data_to_device(CandidateBatch.of(groups), device)
        found += score_responses(model, batch).logprobs.tolist()
    return found
