"""One connection to a judge: an answer, or what stands for an answer where one question alone is refused."""

from __future__ import annotations

import json
from typing import Any

from align.sampling.wire import Refused, Wire

ONE_ITEM = ("context_length_exceeded", "content_filter", "content_policy_violation", "string_above_max_length")
"""Codes of a 400 that concern one question alone."""


class Connection(Wire):
    """Sends chat requests."""

    async def ask(self, body: dict[str, Any], seconds: float) -> str:
        """Return the raw body of an answer, or of an error that concerns this question alone.

        Raises what `post` raises.
        """
        try:
            return await self.post("/chat/completions", body, seconds)
        except Refused as error:
            if error.status == 413 or (error.status == 400 and error.code in ONE_ITEM):
                return json.dumps({"refused": str(error)})
            raise
