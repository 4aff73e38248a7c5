"""vLLM whose own weights are replaced by the policy's: the run is then alone on it, for its answers do not tell."""

from __future__ import annotations

import json
from typing import ClassVar

from align.errors import ModelError
from align.sampling.policy_server import ServedPolicy, Takes
from align.sampling.policy_server_kinds import SHORT, AdapterServer
from align.sampling.server_faults import printable
from align.sampling.wire import Refused, Transient, Wire


class ReplacedWeights(AdapterServer):
    """Reads a folder into its model by vLLM's `/collective_rpc`, and goes on under the model's own name.

    The method is `reload_weights` of its workers, which takes a `weights_path` since vLLM's pull request 32133 (January
    2026). What was computed of prompts with the former weights is dropped by `/reset_prefix_cache`. Both are there with
    VLLM_SERVER_DEV_MODE=1 alone.
    """

    takes: ClassVar[Takes] = "folder"
    names_weights, replaces = False, True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.name = self.root = ""

    async def load(self, wire: Wire, policy: ServedPolicy, seconds: float) -> None:
        """Replace the weights. Raises ModelError where the server does not."""
        await self._find_own(wire)
        await self._reload(wire, str(policy.folder), seconds)

    async def restore(self, wire: Wire, seconds: float) -> None:
        """Read the model that it was started with again."""
        await self._reload(wire, self.root, seconds)

    async def leave(self, wire: Wire, seconds: float) -> None:
        """Do as `restore`."""
        await self.restore(wire, seconds)

    def called(self, policy: ServedPolicy) -> str:
        """Return the server's own name of its model."""
        return self.name

    async def _find_own(self, wire: Wire) -> None:
        """Find out what it calls the model that it was started with; adapters have a parent."""
        listed = await wire.get("/models", SHORT)
        try:
            own = next(card for card in json.loads(listed)["data"] if card.get("parent") is None)
            self.name, self.root = str(own["id"]), str(own["root"])
        except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
            raise ModelError(f"{self.place}: no list of models ({printable(listed, 80)})") from error

    async def _reload(self, wire: Wire, path: str, seconds: float) -> None:
        asked = {"method": "reload_weights", "kwargs": {"weights_path": path}}
        try:
            await wire.post("/collective_rpc", asked, seconds, root=True)
            await wire.post("/reset_prefix_cache", {}, seconds, root=True)
        except (Refused, Transient) as error:
            if isinstance(error, Transient) and error.status != 500:  # with which vLLM says what failed within it
                raise
            raise ModelError(
                f"{self.place} does not take the weights of {path}, which have to be on a disk it shares ({error}): it "
                "needs a vLLM of 2026, whose reload_weights takes a weights_path"
            ) from None
