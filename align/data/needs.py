"""What a module and its data module tell each other."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from align.records import Labels, Preset, ViewName


class Needs(Protocol):
    """What a module tells its data module: the tokenizer, and the view and limits its method works on."""

    view: ViewName
    truncation: ClassVar[Preset]
    labels: Labels
    """What the data module tells back."""

    @property
    def tokenizer(self) -> Any:
        """Return the tokenizer."""

    @property
    def max_positions(self) -> int:
        """Return the longest sequence the model takes."""
