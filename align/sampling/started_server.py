"""A vLLM server that was started with the very model that is asked: nothing is loaded, its name alone is found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from align.errors import ModelError
from align.sampling.policy_server import ServedPolicy, Takes
from align.sampling.policy_server_kinds import SHORT, AdapterServer
from align.sampling.wire import Refused, Transient, Wire


class StartedServer(AdapterServer):
    """Answers under the name that it has for the model, or for an adapter that it was started with (`--lora-modules`).

    Whether its weights are those of the folder is seen by what it says of its samples alone.
    """

    takes: ClassVar[Takes] = "nothing"

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url)
        self.name = name

    async def load(self, wire: Wire, policy: ServedPolicy, seconds: float) -> None:
        """See that it still has the model. Raises ModelError where it was started anew with another one."""
        if self.name not in self._names(await wire.get("/models", seconds)):
            raise ModelError(f"{self.place} has no {self.name} any more, which it was asked for before")

    async def leave(self, wire: Wire, seconds: float) -> None:
        """Leave the server as it was started."""

    def called(self, policy: ServedPolicy) -> str:
        """Return the server's own name of the model."""
        return self.name


async def started_with(wire: Wire, url: str, model: str) -> StartedServer | None:
    """Return the server if vLLM says that it was started with a model, by its folder or hub id; else None.

    Raises ServiceStopped or Transient for a server that does not answer.
    """
    try:
        listed = json.loads(await wire.get("/models", SHORT))["data"]
        cards = [card for card in listed if card.get("owned_by") == "vllm"]
    except (Refused, ValueError, LookupError, TypeError, AttributeError):  # it is no vLLM: others are asked otherwise
        return None
    except Transient as fault:
        if not fault.status:
            raise
        return None  # transformers lists its cache, and answers 500 where there is none
    known = next((card for card in cards if _same(card.get("root"), model) or card.get("id") == model), None)
    return None if known is None else StartedServer(url, str(known["id"]))


def _same(root: object, model: str) -> bool:
    """Tell whether a server's path or hub id is that of the model."""
    return isinstance(root, str) and (root == model or Path(root).resolve() == Path(model).resolve())
