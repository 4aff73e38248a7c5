"""The temperature at which a model is as sharp as another: what a method adds beyond sharpening is told against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from lightning.fabric.utilities import move_data_to_device
from scipy.optimize import brentq
from torch import nn

from align.models.adapters import evaluating
from align.records import CandidateBatch, EncodedGroup
from align.records.candidate_matrix import sum_runs
from align.sampling.generation import Sample
from align.scoring.responses import read_sampled, read_tokens, token_states

LOWEST, HIGHEST = 0.05, 2.0
"""Temperatures between which one is looked for."""
TOGETHER = 128
"""Samples of one pass."""


class SampledEntropy(NamedTuple):
    """How spread the distributions are that samples were drawn from, one number for each sample."""

    entropies: Float[np.ndarray, " sample"]
    """Sum over the sample's tokens of the entropy of the distribution each was drawn from, in nats."""
    tokens: Float[np.ndarray, " sample"]
    """How many tokens it has, the one that ended it included."""
    log_ratios: Float[np.ndarray, " sample"]
    """Log-probability at the temperature less that at temperature 1: its mean estimates the KL divergence, in nats."""
    logprobs: Float[np.ndarray, " sample"]
    """Log-probability at the temperature, in nats."""

    @property
    def per_token(self) -> float:
        """Return the mean over all tokens, in nats."""
        return float(self.entropies.sum() / self.tokens.sum())

    @property
    def per_sequence(self) -> float:
        """Return the mean over samples, which estimates the entropy of whole responses, in nats."""
        return float(self.entropies.mean())


@torch.no_grad()
def sampled_entropy(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    samples: Sequence[Sample],
    temperature: float = 1.0,
    *,
    logit_bytes: int = 2**30,
) -> SampledEntropy:
    """Return the entropies of the distributions that samples came from; expected values over the next token are exact.

    Args:
        model: The model that drew them.
        prompts: Tokens of its prompts, which `Sample.prompt` counts.
        samples: What was drawn, with top_p 1.
        temperature: Of the draw; positive.
        logit_bytes: As in `align.scoring.score_tokens`.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive for an entropy, got {temperature}")
    device, found = next(model.parameters()).device, []
    for first in range(0, len(samples), TOGETHER):
        drawn = samples[first : first + TOGETHER]
        batch: CandidateBatch = move_data_to_device(CandidateBatch.of(_groups(prompts, drawn)), device)
        with evaluating(model):
            states = token_states(model, batch)
            cooled = read_sampled(model, states, temperature=temperature, logit_bytes=logit_bytes)
            plain = cooled if temperature == 1 else read_tokens(model, states, logit_bytes=logit_bytes)
        assert cooled.entropies is not None
        columns = (
            cooled.entropies,
            torch.ones_like(cooled.logprobs),
            cooled.logprobs - plain.logprobs,
            cooled.logprobs,
        )
        found.append(torch.stack([sum_runs(values, states.counts) for values in columns]).double().cpu().numpy())
    return SampledEntropy(*np.concatenate(found, axis=1))


def _groups(prompts: Sequence[Sequence[int]], samples: Sequence[Sample]) -> list[EncodedGroup]:
    """Return samples that follow each other under one prompt as one group, so that it is read once."""
    found = []
    for place, own in groupby(samples, key=lambda s: s.prompt):
        given = list(own)
        blank: list[list[float]] = [[] for _ in given]
        ends = [not s.finished for s in given]
        found.append(EncodedGroup("", list(prompts[place]), [s.ids for s in given], [0] * len(given), blank, 1.0, ends))
    return found


class UnreachedTarget(ValueError):
    """No temperature in the range gives the value."""


class MatchedTemperature:
    """Finds the temperature at which a measure of a model's samples has a given value.

    The measure has to grow with the temperature over the range, or fall, and be drawn with the same seed at each, so
    that neighbours differ by the temperature and not by luck. `per_token` entropy is the one to match: a temperature
    acts on the next token, whose entropy grows with it strictly (d H / d T = Var(logits) / T^3), while the entropy of a
    whole response is first of all its length, and a method that shortens answers would be compared with a base that is
    nearly greedy. The KL divergence to temperature 1 falls up to 1 and grows from there: give it a range on one side.

    What was measured once is kept, so that several values cost few draws more than one.
    """

    def __init__(
        self,
        measure: Callable[[float], float],
        *,
        tolerance: float,
        lowest: float = LOWEST,
        highest: float = HIGHEST,
        resolution: float = 0.002,
    ) -> None:
        """Prepare a search; nothing is measured yet.

        Args:
            measure: From a temperature to the value, such as the entropy per token of samples drawn at it.
            tolerance: How far from the wanted value is near enough.
            lowest: Where the range begins.
            highest: Where it ends.
            resolution: A step of the temperature below which no nearer one is looked for.
        """
        if not 0 < lowest < highest < math.inf or not tolerance > 0 or not resolution > 0:
            raise ValueError(
                f"expected 0 < lowest < highest, tolerance and resolution above 0, "
                f"got {lowest}, {highest}, {tolerance}, {resolution}"
            )
        self._measure, self.tolerance, self.resolution = measure, tolerance, resolution
        self._range = (lowest, highest)
        self._known: dict[float, float] = {}

    @property
    def measured(self) -> Mapping[float, float]:
        """Return what was measured so far, by temperature."""
        return dict(sorted(self._known.items()))

    def value(self, temperature: float) -> float:
        """Return the measure at a temperature, measured when it is first needed."""
        if temperature not in self._known:
            found = self._measure(temperature)
            if not math.isfinite(found):
                raise ValueError(f"the measure is {found} at temperature {temperature:g}: no temperature can be found")
            self._known[temperature] = found
        return self._known[temperature]

    def find(self, target: float) -> float:
        """Return the temperature. Raises UnreachedTarget for a value that the ends of the range do not enclose."""
        low, high = self._range
        ends = self.value(low), self.value(high)
        if not min(ends) - self.tolerance <= target <= max(ends) + self.tolerance:
            raise UnreachedTarget(
                f"expected a value from {min(ends):.4g} to {max(ends):.4g}, which temperatures {low:g} to {high:g} "
                f"give, got {target:.4g}"
            )
        nearest = min(self._known, key=lambda t: abs(self._known[t] - target))
        if abs(self._known[nearest] - target) <= self.tolerance:
            return nearest
        brentq(lambda temperature: self._gap(temperature, target), *self._bracket(target), xtol=self.resolution)
        return min(self._known, key=lambda t: abs(self._known[t] - target))

    def _bracket(self, target: float) -> tuple[float, float]:
        """Return the temperatures nearest to each other between whose values the wanted one lies."""
        known = list(self.measured.items())
        pairs = [(a, b) for (a, first), (b, second) in pairwise(known) if (first - target) * (second - target) < 0]
        return min(pairs, key=lambda pair: pair[1] - pair[0])

    def _gap(self, temperature: float, target: float) -> float:
        """Return how far the measure is from the target, 0 where it is near enough, which ends the search."""
        gap = self.value(temperature) - target
        return 0.0 if abs(gap) <= self.tolerance else gap
