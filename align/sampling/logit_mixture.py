"""Samples from a policy and its reference together: their logits added up by share, token after token."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from align.checks.trust import OWN_ENGINE
from align.errors import ConfigError, ModelError
from align.models.adapters import evaluating
from align.models.in_step import in_step
from align.models.references import Reference
from align.sampling.checked import LocalEngine
from align.sampling.decoding_rows import Rows
from align.sampling.engine import Engine
from align.sampling.generation import Completion, Generation, Job, sample_key, uniforms
from align.sampling.local import DEAD_SHARE
from align.sampling.prompt_cache import last_logits, prefill
from align.sampling.stopping_criteria import StopCriteria
from align.sampling.transformers_generate import outgrows

CHOICE = -1
"""In place of a sample's number: the stream that says whether a prompt is the policy's alone."""


@dataclass(frozen=True)
class LogitMixture:
    """From which logits each sample of a prompt is drawn: (1 - share) of the policy's and share of the reference's.

    A share between 0 and 1 is the geometric mixture of Nash-MD (Munos et al. 2023, arXiv:2312.00886, Eq. 5), token by
    token as its implementations have it; 1 is the reference. PILAF (2025, arXiv:2502.04270) draws its pair with -beta,
    beyond the policy, and beta, and with `plain` 0.5 the pairs of half of the prompts from the policy.
    """

    shares: Sequence[float]
    """The reference's share for each sample of a prompt, in the order of their numbers, from the start again after the
    last."""
    plain: float = 0.0
    """Probability that all samples of a prompt are the policy's."""

    def __post_init__(self) -> None:
        if not any(self.shares) or not all(map(math.isfinite, self.shares)) or not 0 <= self.plain < 1:
            raise ConfigError(
                "mixture: shares must hold a number that is not 0, all of them finite, and plain lie in [0, 1), got "
                f"{list(self.shares)}, {self.plain}"
            )

    def check(self, settings: Generation) -> None:
        """Raise ConfigError where samples are not as many as shares, or several times as many."""
        if settings.num_samples % len(self.shares):
            raise ConfigError(
                f"generation.num_samples {settings.num_samples} is no multiple of the {len(self.shares)} mixture.shares"
            )

    def of_rows(self, jobs: Sequence[Job], seed: int, round_number: int) -> list[float]:
        """Return the reference's share of every sample of some jobs; it depends on seed, round and prompt alone."""
        found = []
        for job in jobs:
            alone = uniforms(sample_key(seed, round_number, job.request.id, CHOICE), 1)[0] <= self.plain
            found += [0.0 if alone else self.shares[k % len(self.shares)] for k in job.numbers]
        return found


class MixtureEngine(Engine):
    """Decodes policy and reference side by side, each prompt computed once by each."""

    def __init__(
        self,
        policy: nn.Module,
        reference: Reference,
        mixture: LogitMixture,
        *,
        tokenizer: Any,
        eos_ids: Sequence[int],
        stop: Sequence[str] = (),
        whole_weights: bool = False,
    ) -> None:
        self.policy, self.reference, self.mixture, self.whole_weights = policy, reference, mixture, whole_weights
        self.ends = StopCriteria(tokenizer, eos_ids, stop)

    @torch.no_grad()
    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job.

        Raises ConfigError for a reference that is not one model, or of another vocabulary, and ModelError for a model
        that our own decoding does not serve.
        """
        self.mixture.check(settings)
        self._check(jobs, settings)
        rows = Rows(self.policy, self.ends, jobs, settings, round_number)
        shares = torch.tensor(self.mixture.of_rows(jobs, settings.seed, round_number), device=rows.numbers.device)
        with evaluating(self.policy):
            self._decode(rows, shares[:, None])
        return rows.completions()

    def in_step(self) -> AbstractContextManager[None]:
        """Return the context in which sharded models are sampled."""
        reference = [] if self.reference.model is None else [self.reference.model]
        return in_step([self.policy, *reference], whole=self.whole_weights)

    def _check(self, jobs: Sequence[Job], settings: Generation) -> None:
        prompts = [job.request.ids for job in jobs]
        for side in self._sides():
            name = side(lambda model: LocalEngine(model, self.ends.tokenizer, ()).check(prompts))
            if name != OWN_ENGINE or outgrows(self.policy, jobs, settings):
                raise ModelError(
                    f"mixture: this model is sampled from by {name}, or outgrows its rotary angles, and a mixture is "
                    "drawn by our own decoding alone: leave mixture out"
                )

    def _sides(self) -> list[Callable[[Callable[[nn.Module], Any]], Any]]:
        """Return how a function is called with the policy, and with the reference."""
        return [lambda function: function(self.policy), lambda function: self.reference.run(self.policy, function)]

    def _decode(self, rows: Rows, shares: Float[Tensor, "row 1"]) -> None:
        """Draw one token after another for every row that has not ended."""
        prompts = [job.request.ids for job in rows.jobs]
        device, sides = rows.numbers.device, self._sides()
        owners = torch.tensor([place for place, job in enumerate(rows.jobs) for _ in job.numbers], device=device)
        begun = [side(lambda model: prefill(model, prompts, owners)) for side in sides]
        caches, logits = [cache for _, cache in begun], [first[owners] for first, _ in begun]
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)[owners]
        held = rows.all
        for step in range(rows.settings.max_new_tokens):
            tokens = rows.draw(mixed(logits[0], logits[1], shares), held, step)
            going = rows.take(held, tokens.tolist())
            if not going:
                break
            if len(going) < (1 - DEAD_SHARE) * len(held):
                places = torch.tensor(going, device=device)
                for cache in caches:
                    cache.keep(places)
                tokens, lengths, shares = tokens[places], lengths[places], shares[places]
                held = [held[place] for place in going]
            fed = [cache.step(tokens, lengths + step) for cache in caches]
            logits = [side(partial(last_logits, fed=own)) for side, own in zip(sides, fed, strict=True)]


def mixed(
    policy: Float[Tensor, "row vocab"], reference: Float[Tensor, "row vocab"], shares: Float[Tensor, "row 1"]
) -> Float[Tensor, "row vocab"]:
    """Return the logits of the mixture, in float32 at least. Raises ConfigError for two vocabularies."""
    if policy.shape != reference.shape:
        raise ConfigError(
            f"mixture: the policy has {policy.shape[-1]} tokens and the reference {reference.shape[-1]}: take a "
            "reference of the same vocabulary"
        )
    dtype = torch.promote_types(policy.dtype, torch.float32)
    own = policy.to(dtype)
    both = (1 - shares) * own + shares * reference.to(dtype)
    return torch.where(shares == 0, own, both)  # a token of probability 0 in both stays one
