"""Tokens that a policy drew, with what is known of them when it is trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from align.records.batch import CandidateBatch
from align.records.candidate_matrix import sum_runs


@dataclass(frozen=True)
class SampledRound:
    """The samples of one round and their rewards; a group stands in a run of its size."""

    number: int
    ids: Sequence[str]
    """Names of the groups."""
    sizes: NDArray[np.int64]
    """Samples of each group."""
    lengths: NDArray[np.int64]
    """Tokens of each sample."""
    rewards: Float[NDArray[np.float64], " sample"]
    finished: Float[NDArray[np.float64], " sample"]
    """1 for a sample that ended by itself, 0 for one cut off at its limit."""
    temperature: float
    """At which they were drawn."""
    steps: int
    """Optimiser steps that are trained on them, over all epochs of the round."""
    batches: Callable[[], Iterable[CandidateBatch]]
    """This process's share of the groups, each once over all processes."""
    path: Path
    """Where what is computed of the samples is kept for a run that goes on inside the round."""
    sha256: str
    """Of the round's sealed file."""
    engine_logprobs: Float[NDArray[np.float64], " token"] | None = None
    """Of the tokens as another engine than ours told them, NaN where it told none; None where there is no such one."""
    importance_cap: float | None = None
    """Largest ratio of our probability to the engine's that a token's loss is multiplied by; None corrects nothing."""


class SampledTokens(NamedTuple):
    """The tokens of the samples of a batch, those of one sample in a run of `counts[candidate]`."""

    logprobs: Float[Tensor, " token"]
    """Of the policy as it is, at the temperature of sampling."""
    old_logprobs: Float[Tensor, " token"]
    """Of the policy as the round began: the one that drew them, unless servers drew them ahead."""
    advantages: Float[Tensor, " token"]
    entropies: Float[Tensor, " token"]
    """Of the policy where each token stands, in nats."""
    counted: Float[Tensor, " token"]
    """1 for a token whose loss counts, 0 for one of a sample that is masked or of padding."""
    counts: Int[Tensor, " candidate"]
    reference_logprobs: Float[Tensor, " token"] | None = None
    """Of the reference policy, where it is read."""
    values: Float[Tensor, " token"] | None = None
    """Of the critic as it is, where there is one."""
    old_values: Float[Tensor, " token"] | None = None
    returns: Float[Tensor, " token"] | None = None
    old_end_values: Float[Tensor, " token"] | None = None
    """Of the critic behind the end of each token's sample, as the round began, where scores stand there."""
    end_returns: Float[Tensor, " token"] | None = None
    """Of the state behind the end of each token's sample, NaN of one without an end, where scores stand there."""
    engine_ratios: Float[Tensor, " token"] | None = None
    """Our probability of each token over the engine's that drew it, truncated, where losses are corrected by it."""

    engine_logprobs: Float[Tensor, " token"] | None = None
    """Of the tokens as another engine told them that drew them, NaN where it told none."""
    high_entropy: Float[Tensor, " token"] | None = None
    """1 for a token among those of the highest entropy, which alone are trained on; None where all are."""

    def sums(self, values: Float[Tensor, " token"]) -> Float[Tensor, " candidate"]:
        """Return the sum of every sample's values."""
        return sum_runs(values, self.counts)

    def on_tokens(self, values: Float[Tensor, " candidate"]) -> Float[Tensor, " token"]:
        """Return the value of every token's sample."""
        return values.repeat_interleave(self.counts, output_size=len(self.logprobs))

    @property
    def lengths(self) -> Float[Tensor, " candidate"]:
        """Return how many tokens of each sample count, at least 1."""
        return self.sums(self.counted).clamp(min=1)


class TakenSample(NamedTuple):
    """One sample as a step trained on it, to be looked at."""

    prompt_ids: list[int]
    response_ids: list[int]
    labels: dict[str, float]
    """The reward, whether it finished, and the scores behind the reward, by name."""
    advantage: float
    """Mean over its tokens."""
    kl: float | None
    """From the reference, per token in nats, as `train/kl` is; None where no reference is read."""
