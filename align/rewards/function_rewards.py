"""A Python function as a scorer: batched or for one response, in a process of its own, with a time limit."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from align.distributed import rank
from align.errors import ConfigError, RewardError, shorten
from align.records import Example
from align.rewards.function_arguments import FunctionArguments
from align.rewards.function_process import FunctionFault, FunctionProcess
from align.rewards.function_source import FunctionSource
from align.rewards.scorers import Dialogue, Scorer

AT_FAULT = 8
"""So many prompts of a call fail, and none was answered before: the function is at fault, not what it is given."""


class FunctionRewards(Scorer):
    """What a Python function says of responses, called as TRL calls reward functions: with names, in batches.

    `def accuracy(completions, answer, **kwargs)` gets lists and returns a list of numbers, `def short(completion)` one
    text and returns a number. Prompts are `prompts` (`prompt`), the text that was answered, and `messages`, all turns.
    Other names are columns of the data that `data.keep_columns` names, None where a row leaves one out. A call that
    fails is repeated response by response, so that the one at fault is named.
    """

    def __init__(
        self,
        function: str,
        *,
        arguments: dict[str, Any] | None = None,
        name: str | None = None,
        time_limit: float = 60.0,
        on_error: Literal["stop", "drop"] = "stop",
        batch_size: int = 256,
        conversational: bool = False,
        together: bool = False,
    ) -> None:
        """Name the function.

        Args:
            function: `my_rewards:accuracy` (module:function) or `path/my_rewards.py:accuracy`.
            arguments: What it is given by name beside the responses, the same in every call.
            name: Of its score; null takes the function's.
            time_limit: Seconds of a call; a function that takes longer is ended.
            on_error: `stop` ends the run at a response for which the function raises, hangs, ends its process, or
                returns None, NaN or another number of values; `drop` leaves such responses out, counted: they are
                seldom like the others, so that what is left is no fair sample.
            batch_size: Responses of a call at most.
            conversational: Give prompts and completions as lists of messages, as TRL does for conversational data.
            together: Give all samples of one prompt in one call, each as often as it was drawn, and nothing else, for a
                function that compares them; where a call fails none of its samples has a score.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        self.source = FunctionSource.find(function)
        self.arguments, self.on_error, self.batch_size = arguments or {}, on_error, batch_size
        self.conversational, self.compares = conversational, together
        self.attributes = (name or self.source.name,)
        self.process = FunctionProcess(self.source, time_limit)
        self._asked, self._faults, self._first, self._told = 0, Counter[str](), "", False
        self._failed: set[str] | None = None  # prompts of a call that failed, until one is answered

    @property
    def identity(self) -> str:
        """Return a hash of the function's source file, the user's own files it imports, its name and its arguments."""
        return f"{self.lasting_identity} {self.process.hash[:16]}"

    @property
    def lasting_identity(self) -> str:
        """Return the same without the source, which may be mended while a run goes on."""
        together = (True,) if self.compares else ()
        own = (self.source.name, sorted(self.arguments.items()), self.conversational, *together)
        return f"function {self.source.told} {hashlib.sha256(repr(own).encode()).hexdigest()[:16]}"

    def ready(self) -> None:
        """Import the function. Raises ConfigError where that fails, or where its parameters do not fit."""
        _ = self._form
        if rank() != 0:  # the first process scores; where others do, theirs start again
            self.process.close()

    @cached_property
    def _form(self) -> FunctionArguments:
        form = FunctionArguments.of(self.source.told, self.process.asks(), self.arguments, self.conversational)
        if self.compares and form.single:
            raise ConfigError(
                f"together: function {self.source.told!r} takes one `completion`, expected `completions`, a list of all"
            )
        return form

    def check_examples(self, examples: Sequence[Example]) -> None:
        """Raise ConfigError for a record without a column that the function asks for."""
        self._form.check(examples)

    def report(self) -> dict[str, object]:
        """Return how many responses were asked for, and those without a score by reason, with the first of them."""
        told: dict[str, object] = {
            "function": self.source.told,
            "source": self.process.hash[:16],
            "asked": self._asked,
        }
        return {**told, "no score": dict(self._faults), "first": self._first} if self._faults else told

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return the scores; raises ConfigError for a function that reads columns, which prompts alone do not have."""
        same = dict[Dialogue, int]()
        names = [f"prompt {same.setdefault(tuple(p), n) if self.compares else n}" for n, p in enumerate(prompts)]
        return self.score_examples([Example(n, tuple(p)) for n, p in zip(names, prompts, strict=True)], responses)

    def score_examples(
        self, examples: Sequence[Example], responses: Sequence[str]
    ) -> Float[Tensor, "response attribute"]:
        """Return the scores, NaN for a response without one. Raises RewardError where that stops the run."""
        self.check_examples(examples)
        pairs, self._failed = list(zip(examples, responses, strict=True)), set()
        found = torch.full((len(pairs), 1), math.nan, dtype=torch.float64)
        for places in self._calls(examples):
            found[places, 0] = torch.tensor(self._scores([pairs[n] for n in places]), dtype=torch.float64)
        return found

    def _calls(self, examples: Sequence[Example]) -> list[list[int]]:
        """Return the places of the responses of every call: of whole prompts, or of as many as there may be."""
        if self.compares:
            groups = dict[str, list[int]]()
            for place, example in enumerate(examples):
                groups.setdefault(example.id, []).append(place)
            return list(groups.values())
        size = 1 if self._form.single else self.batch_size
        places = list(range(len(examples)))
        return [places[first : first + size] for first in range(0, len(places), size)]

    def _scores(self, pairs: Sequence[tuple[Example, str]]) -> list[float]:
        self._asked += len(pairs)
        try:
            found = self._called(pairs)
        except FunctionFault as fault:
            alone = self.compares or len(pairs) == 1
            return [self._without(pair, fault) for pair in pairs] if alone else self._one_by_one(pairs, fault)
        return [self._number(pair, value) for pair, value in zip(pairs, found, strict=True)]

    def _one_by_one(self, pairs: Sequence[tuple[Example, str]], fault: FunctionFault) -> list[float]:
        """Return scores of a call that failed, each response by itself."""
        found: list[float] = []
        for pair in pairs:
            try:
                found.append(self._number(pair, self._called([pair])[0]))
            except FunctionFault as own:
                found.append(self._without(pair, own))
        if not any(map(math.isnan, found)) and not self._told:
            self._told = True
            rank_zero_warn(
                f"{self._named} {fault} for {len(pairs)} responses at once and gave each a score alone, which counts: "
                "give it fewer at a time (batch_size) or longer (time_limit), or mend it"
            )
        return found

    def _called(self, pairs: Sequence[tuple[Example, str]]) -> list[float | str | None]:
        found = self.process.call(self._form.given(pairs))
        if len(found) != len(pairs):
            raise FunctionFault(f"returned {len(found)} values for {len(pairs)} responses")
        return found

    def _number(self, pair: tuple[Example, str], value: float | str | None) -> float:
        self._failed = None
        return value if isinstance(value, float) else self._without(pair, FunctionFault(f"returned {value}"))

    def _without(self, pair: tuple[Example, str], fault: FunctionFault) -> float:
        """Return NaN for a response without a score, or raise RewardError."""
        example, response = pair
        line = f"{self._named} {fault} for {example.id}, the response {shorten(response, 80)!r}"
        if self.on_error == "stop":
            raise RewardError(
                f"{line}: mend it, or set on_error: drop to leave such responses out; what was sampled is kept"
            )
        if not self._faults:
            self._first = line
            rank_zero_warn(f"{line}: it has no score (said once; on_error: drop)")
        self._faults[fault.kind] += 1
        if self._failed is not None:
            self._failed.add(example.id)
            if len(self._failed) == AT_FAULT:
                raise RewardError(
                    f"{self._named} failed for each of the first {AT_FAULT} prompts of a call: {self._first}"
                )
        return math.nan

    @property
    def _named(self) -> str:
        return f"reward function {self.source.told}"
