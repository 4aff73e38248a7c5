"""What a chat template is given beside the turns of a row, as one text that travels with its prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from align.strict_json import json_text


class Beside(NamedTuple):
    """Functions that may be called, and settings of the template that are the row's own."""

    tools: str = ""
    """A JSON list of schemas, or nothing."""
    settings: Mapping[str, Any] = {}
    """Its `chat_template_kwargs`."""

    @classmethod
    def of(cls, text: str) -> Beside:
        """Return what a text of `as_text` holds; one without settings is the list of schemas itself."""
        if not text.startswith("{"):
            return cls(text)
        held = json.loads(text)
        return cls(held["tools"], held["chat_template_kwargs"])

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns of a data file that hold both, none for what there is not."""
        held = {"tools": self.tools, "chat_template_kwargs": dict(self.settings)}
        return {name: value for name, value in held.items() if value}

    @property
    def as_text(self) -> str:
        """Return both as a text that is the same for the same settings, whatever their order."""
        if not self.settings:
            return self.tools
        settings = dict(sorted(self.settings.items()))
        return json_text({"tools": self.tools, "chat_template_kwargs": settings}, ascii_only=True)
