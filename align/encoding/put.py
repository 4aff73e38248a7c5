"""What a method puts into every prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from align.records import Message


class Put(NamedTuple):
    """What is put into every prompt."""

    apply: Callable[[tuple[Message, ...]], tuple[Message, ...]]
    chat_template_kwargs: dict[str, Any]
    """What the template is given too."""

    @property
    def fingerprint(self) -> str:
        """Return what it makes of a dialogue with every kind of turn."""
        return repr(
            self.apply(tuple(Message(role, f"a {role} turn") for role in ("system", "user", "assistant", "user")))
        )
