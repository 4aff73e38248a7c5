"""Which layouts give what a plain forward pass gives, on real rows; those that do not are refused from then on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from align.checks.differences import Computed, Difference, compare, compute
from align.checks.plain import plain_logprobs, plain_rewards
from align.checks.tolerance import Tolerance, rounded_embeddings, tolerance_of
from align.errors import ModelError, StatesError, shorten
from align.records import CandidateBatch
from align.scoring import score_tokens
from align.scoring.decoder import choose_layout, exact_layouts, unwrapped
from align.scoring.reward_outputs import reward_outputs

FASTEST_FIRST = ("packed", "shared", "padded")
BROKEN = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""What a model raises for inputs it cannot take."""


class Plain(Protocol):
    """Computes numbers by plain forward passes, alone or in one padded batch."""

    def __call__(self, model: nn.Module, batch: CandidateBatch, *, padded: bool = False) -> Tensor:
        """Return the numbers."""


class Scoring(NamedTuple):
    """Numbers a run reads off a model, computed our way and the plain way."""

    name: str
    ours: Callable[[nn.Module, CandidateBatch, str], Tensor]
    plain: Plain
    least: float
    """Smaller numbers are measured against this."""


LOGPROBS = Scoring(
    "log-probabilities",
    lambda model, batch, layout: score_tokens(model, batch, layout=layout).logprobs,
    plain_logprobs,
    1.0,
)
ALL_LOGPROBS = Scoring(
    "log-probabilities, of prompts too,",
    lambda model, batch, layout: score_tokens(model, batch, layout=layout, score_prompts=True).logprobs,
    partial(plain_logprobs, score_prompts=True),
    1.0,
)
REWARDS = Scoring(
    "rewards", lambda model, batch, layout: reward_outputs(model, batch, layout=layout).flatten(), plain_rewards, 0.1
)


class LayoutVerdict(NamedTuple):
    """What the check of one batch found."""

    layout: str
    difference: Difference
    tolerance: Tolerance
    refused: dict[str, str]
    """Layouts that were tried before, and what is wrong with each."""

    def __str__(self) -> str:
        return f"{self.layout} rows, {self.difference} ({self.tolerance.precision})"

    def warning(self, user: str) -> str:
        """Return one line on the layouts that were refused, and what is used instead."""
        found = "; ".join(f"{name}: {why}" for name, why in self.refused.items())
        return (
            f"self-check: {', '.join(self.refused)} rows do not agree with a plain forward pass ({found}); "
            f"{user} uses {self.layout} rows, which do ({self.difference})"
        )


class LayoutCheck:
    """Compares layouts of one model with its plain forward pass."""

    def __init__(self, model: nn.Module, scoring: Scoring, *, gradients: bool, everywhere: bool) -> None:
        """Configure the check.

        Args:
            model: The model, in the mode and precision of the run.
            scoring: What is compared.
            gradients: Compare those of the trained parameters too.
            everywhere: All ranks take part, and decide the same.
        """
        self.model, self.scoring = model, scoring
        self.gradients, self.everywhere = gradients, everywhere
        self.tolerance = tolerance_of(model)

    def __call__(self, batch: CandidateBatch, layout: str = "auto") -> LayoutVerdict:
        """Return the first layout that passes, from the one in use on. Raises ModelError where none does."""
        plain = self._run(lambda: self.scoring.plain(self.model, batch))
        if isinstance(plain, str):
            raise ModelError(f"model type {self._type}: a plain forward pass of transformers does not run: {plain}")
        if not bool(plain.values.isfinite().all()):
            value = float(plain.values[~plain.values.isfinite()][0])
            raise ModelError(
                f"model type {self._type}: {self.scoring.name} hold {value}: check the weights and their dtype"
            )
        first = choose_layout(self.model, batch, layout)
        exact = exact_layouts(self.model, batch)
        order = [name for name in FASTEST_FIRST[FASTEST_FIRST.index(first) :] if name in exact]
        refused: dict[str, str] = {}
        for name in order if layout == "auto" else [first]:
            found = self._run(lambda name=name: self.scoring.ours(self.model, batch, name))  # type: ignore[misc]
            if isinstance(found, str):
                refused[name] = f"does not run: {found}"
                continue
            difference = self._compare(found, plain)
            if difference.within(self.tolerance.right) or difference.within(self._bound(batch, plain)):
                return LayoutVerdict(name, difference, self.tolerance, refused)
            refused[name] = str(difference)
        raise ModelError(self._no_layout(refused, layout))

    def _run(self, function: Callable[[], Tensor]) -> Computed | str:
        """Return what a function gives, or why it does not run: the same kind of answer on all ranks."""
        found: Computed | str
        try:
            found = compute(self.model, function, gradients=self.gradients)
        except (torch.OutOfMemoryError, StatesError):
            raise
        except BROKEN as error:
            found = f"{type(error).__name__}: {shorten(error, 120)}"
        if self.everywhere and dist.is_initialized():
            failed = torch.tensor(float(isinstance(found, str)), device=next(self.model.parameters()).device)
            dist.all_reduce(failed, op=dist.ReduceOp.MAX)
            if failed and not isinstance(found, str):
                return "it fails in another process"
        return found

    def _compare(self, ours: Computed, plain: Computed) -> Difference:
        return compare(ours, plain, least=self.scoring.least, everywhere=self.everywhere)

    def _bound(self, batch: CandidateBatch, plain: Computed) -> Difference:
        """Measure the model's own rounding, and return the difference that is allowed for it."""
        with rounded_embeddings(self.model):
            padded = self._run(lambda: self.scoring.plain(self.model, batch, padded=True))
        noise = Difference(0, 0) if isinstance(padded, str) else self._compare(padded, plain)
        return self.tolerance.bound(noise)

    @property
    def _type(self) -> str:
        return str(unwrapped(self.model).config.model_type)

    def _no_layout(self, refused: dict[str, str], layout: str) -> str:
        found = "; ".join(f"{name}: {why}" for name, why in refused.items())
        advice = "set backbone.layout to auto" if layout != "auto" else "take another model"
        return (
            f"model type {self._type}: {self.scoring.name} agree with a plain forward pass in no layout "
            f"({found}; expected in {self.tolerance.precision} {self.tolerance.right}): {advice}"
        )


def refuse_layouts(models: Sequence[nn.Module], names: Sequence[str]) -> None:
    """Let nothing choose these layouts for these models any more."""
    for model in models:
        model.refused_layouts = {*getattr(model, "refused_layouts", ()), *names}  # type: ignore[assignment]
