"""What a module and its data module tell each other."""

from __future__ import annotations

from typing import Any, Protocol

from align.records import Instructions, Labels, Message, MethodLimits, MethodView, RowLayout


class PutPrompts(Protocol):
    """What is put into prompts beside what a method trains on."""

    @property
    def puts(self) -> bool:
        """Whether anything is."""

    @property
    def chat_template_kwargs(self) -> dict[str, Any]:
        """Return what the chat template is given."""

    def apply(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Return a prompt as it is asked."""


class Needs(Protocol):
    """What a module tells its data module: the tokenizer, and the view and limits its method works on."""

    view: MethodView
    truncation: MethodLimits
    instructions: Instructions | None
    """Under which every prompt is encoded beside the plain one."""
    max_response: int | None
    """Longest response the method reads, in tokens; null leaves it to the limits."""
    scores_turns: bool
    """Whether every assistant turn of a whole dialogue is scored, not the last alone."""
    reads_others: bool
    """Whether every response is also read under another prompt of its step."""
    reads_steps: bool
    """Whether a loss reads the whole of its step, in validation too."""

    def take_labels(self, labels: Labels) -> None:
        """Take what the data module tells back of the labels it read."""

    def row_layout(self) -> RowLayout:
        """Return how the model lays batches out; asked when loaders are made."""

    @property
    def step_groups(self) -> int:
        """Return the groups of an optimiser step where the data name none."""

    @property
    def tokenizer(self) -> Any:
        """Return the tokenizer."""

    @property
    def max_positions(self) -> int:
        """Return the longest sequence the model takes."""


class PredictingMethod(Needs, Protocol):
    """A module whose predictions are written."""

    def ask_predicted(self, *, views: bool) -> PutPrompts:
        """Settle how prompts are asked whose responses are predicted; `views` tells that the data's view does it."""
