"""What a reward function is called with: responses, their prompts, columns of their rows, and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.errors import ConfigError, did_you_mean
from align.records import Example
from align.rewards.function_process import Asks

BATCHED, SINGLE = ("prompts", "completions", "messages"), ("prompt", "completion", "messages")


@dataclass(frozen=True)
class FunctionArguments:
    """The form in which one function is asked."""

    told: str
    """The function, as settings name it."""
    asks: Asks
    arguments: Mapping[str, Any]
    conversational: bool
    single: bool
    """Whether it is asked for one response at a time."""

    @classmethod
    def of(cls, told: str, asks: Asks, arguments: Mapping[str, Any], conversational: bool) -> FunctionArguments:
        """Return the form that the parameters call for. Raises ConfigError where they call for none."""
        single = "completion" in asks.named and "completions" not in asks.named
        if not single and not asks.takes("completions"):
            raise ConfigError(
                f"function {told!r} takes {', '.join(asks.named) or 'nothing'}: expected a parameter `completions` (a "
                "list in, a list of numbers out) or `completion` (one text in, a number out)"
            )
        form = cls(told, asks, arguments, conversational, single)
        known = [name for name in asks.named if name not in form.own]
        if unknown := [name for name in arguments if name in form.own or not asks.takes(name)]:
            raise ConfigError(
                f"arguments.{unknown[0]}: function {told!r} takes {', '.join(known) or 'nothing'} beside its responses"
                f"{did_you_mean(unknown[0], known)}"
            )
        return form

    @property
    def own(self) -> tuple[str, ...]:
        """Return the names that are neither columns nor settings."""
        return SINGLE if self.single else BATCHED

    def check(self, examples: Sequence[Example]) -> None:
        """Raise ConfigError for a record without a column that the function asks for, or with one too many."""
        needed = [n for n in self.asks.required if n not in self.own and n not in self.arguments]
        for example in examples:
            kept = example.kept
            if missing := [name for name in needed if name not in kept]:
                of = f"{example.id}{f' of {example.source}' if example.source else ''}"
                raise ConfigError(
                    f"function {self.told!r} asks for {missing[0]!r}, which {of} does not carry: keep its column, "
                    f"--data.keep_columns '[{', '.join(needed)}]' of a run, --keep_columns of other verbs, or set "
                    f"arguments.{missing[0]}"
                )
            if clash := [name for name in kept if name in self.own or name in self.arguments]:
                raise ConfigError(
                    f"data.keep_columns names {clash[0]!r}, which function {self.told!r} is given as something else: "
                    "rename the column, or leave it out"
                )

    def given(self, pairs: Sequence[tuple[Example, str]]) -> dict[str, Any]:
        """Return the arguments of a call for these records and responses."""
        rows = [self._row(example, response) for example, response in pairs]
        kept = [example.kept for example, _ in pairs]
        names = dict.fromkeys(name for columns in kept for name in columns)
        for row, columns in zip(rows, kept, strict=True):
            row.update({name: columns.get(name) for name in names})
        wanted = [name for name in rows[0] if self.asks.takes(name)]
        if self.single:
            return {**{name: rows[0][name] for name in wanted}, **self.arguments}
        return {**{name: [row[name] for row in rows] for name in wanted}, **self.arguments}

    def _row(self, example: Example, response: str) -> dict[str, Any]:
        turns = [message.as_turn() for message in example.messages]
        prompt, completion, messages = self.own[0], self.own[1], self.own[2]
        if self.conversational:
            return {prompt: turns, completion: [{"role": "assistant", "content": response}], messages: turns}
        return {prompt: example.messages[-1].content, completion: response, messages: turns}
