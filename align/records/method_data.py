"""What a method asks of its data: what is made of an example, and how long it may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

from align.records.example import Example

ViewName = Literal[
    "pairs",
    "lists",
    "lists_by_reward",
    "lists_by_label",
    "best_by_reward",
    "singles",
    "worst",
    "either",
    "hindsight",
    "prompts",
    "regression",
    "win_rates",
    "samples",
    "unpaired",
]
"""Views that `align.data.fitting` names, for those that may not import any."""


class OwnView(Protocol):
    """What is made of an example; a subclass of `align.data.views.View`."""

    def groups(self, example: Example) -> Iterable[Example]:
        """Return the groups of an example."""


MethodView = ViewName | OwnView
"""The view of an objective or method: by its name, or itself."""
TruncationPreset = Literal["usual", "sft", "reward", "rahf", "pro", "dpo", "rm", "dpa"]
"""Limits on lengths, those methods take and those that papers made usual; `align.encoding.truncation` holds them."""


class OwnLimits(Protocol):
    """Limits on lengths; `align.encoding.truncation.Truncation` is some."""

    @property
    def max_total(self) -> int:
        """Return the longest prompt plus response, in tokens."""


MethodLimits = TruncationPreset | OwnLimits
"""The limits of a method: by their name, or themselves."""
