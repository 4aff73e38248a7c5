"""How servers take a policy beside their own model: vLLM an adapter, `transformers serve` a folder that is named."""

from __future__ import annotations

import json
import math
from typing import Any, ClassVar

from align.errors import ConfigError, ModelError
from align.sampling.generation import Completion, Generation, Request
from align.sampling.policy_server import PolicyServer, ServedPolicy, Takes
from align.sampling.served_answer import ServedAnswer, read_answer
from align.sampling.server_faults import printable, storable
from align.sampling.stopping_criteria import StopCriteria
from align.sampling.wire import Refused, Transient, Wire

COLD_AND_HOT = (0.1, 10.0)
"""Temperatures at which the highest probability is near 1 and near that of any token."""
NOISE = 0.5
"""Nats that two answers of a server that computes in bfloat16 may differ by."""
SHORT = 30.0
"""Seconds for an answer that takes no work."""


class AdapterServer(PolicyServer):
    """vLLM: loads a LoRA adapter under a name, takes and gives tokens, and tells their log-probabilities.

    Every field is sent that the server would take from the model's own generation settings otherwise. A sample ends at
    our token alone, as with our engine.
    """

    takes: ClassVar[Takes] = "adapter"
    tells_tokens, api, path = True, "completions", "/completions"

    async def load(self, wire: Wire, policy: ServedPolicy, seconds: float) -> None:
        """Load the adapter unless it is there, and unload the run's former ones."""
        held = self._names(await wire.get("/models", seconds))
        if policy.name not in held:
            await self._add(wire, policy, seconds)
        for former in held:
            if former.startswith(policy.run) and former != policy.name:
                await self._drop(wire, former, seconds)

    async def _add(self, wire: Wire, policy: ServedPolicy, seconds: float) -> None:
        asked = {"lora_name": policy.name, "lora_path": str(policy.folder)}
        try:
            await wire.post("/load_lora_adapter", asked, seconds)
        except (Refused, Transient) as error:
            if isinstance(error, Transient) and error.status != 500:  # with which vLLM says what it cannot load
                raise
            if policy.name not in self._names(await wire.get("/models", seconds)):  # by another process in between
                raise ModelError(
                    f"{self.place} does not load the adapter {policy.folder}, which has to be on a disk it shares: "
                    f"{error}"
                ) from None

    @staticmethod
    async def _drop(wire: Wire, former: str, seconds: float) -> None:
        try:
            await wire.post("/unload_lora_adapter", {"lora_name": former}, seconds)
        except Refused as error:
            if error.status != 404:  # it is gone already
                raise

    async def leave(self, wire: Wire, seconds: float) -> None:
        """Unload the adapter."""
        await self._drop(wire, self.model, seconds)

    def _names(self, listed: str) -> list[str]:
        """Return the names in a list of models."""
        try:
            return [str(card["id"]) for card in json.loads(listed)["data"]]
        except (ValueError, LookupError, TypeError) as error:
            raise ModelError(f"{self.place}: no list of models ({printable(listed, 80)})") from error

    def called(self, policy: ServedPolicy) -> str:
        """Return the adapter's name."""
        return policy.name

    def body(self, request: Request, key: int, settings: Generation, ends: StopCriteria) -> dict[str, Any]:
        """Return tokens, and what must not come from anywhere else."""
        plain = {
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }
        ending = {"ignore_eos": True, "stop_token_ids": list(ends.eos_ids)}
        told = {"return_token_ids": True, "logprobs": 0}
        return {"prompt": list(request.ids), **self.drawing(key, settings, ends), **plain, **ending, **told}

    def completion(self, answer: ServedAnswer, ends: StopCriteria) -> Completion:
        """Return the tokens of an answer. Raises ModelError where they are missing or without their end."""
        ids, finish = answer.choice.get("token_ids"), answer.finish
        if not isinstance(ids, list) or not ids or not all(isinstance(token, int) for token in ids):
            raise ModelError(f"{self.place}: no token ids in its answer: it needs vLLM 0.10.2 or later")
        if finish == "eos" and ids[-1] not in ends.eos_ids:
            raise ModelError(f"{self.place}: a sample that ended without its last token {ends.eos_ids}, got {ids[-1]}")
        told = (answer.choice.get("logprobs") or {}).get("token_logprobs")
        if told is None:
            return ends.completion(ids, finish)
        if len(told) != len(ids):
            raise ModelError(f"{self.place}: {len(told)} log-probabilities of {len(ids)} tokens")
        return ends.completion(ids, finish)._replace(
            logprobs=[math.nan if v is None else round(float(v), 6) for v in told]
        )

    async def find_mode(self, wire: Wire, ends: StopCriteria, seconds: float) -> None:
        """Find out whether its log-probabilities follow the temperature, by the highest one at two temperatures."""
        found = []
        for temperature in COLD_AND_HOT:
            own = Generation(max_new_tokens=1, temperature=temperature)
            sent = self.body(Request("", list(ends.eos_ids[:1])), 0, own, ends)
            text = await self.ask(wire, {**sent, "logprobs": 1}, seconds)
            choice = read_answer(text, self.place, self.api).choice
            top = ((choice.get("logprobs") or {}).get("top_logprobs") or [{}])[0]
            found.append(max(top.values(), default=0.0))
        self.processed = abs(found[0] - found[1]) > NOISE


class FolderServer(PolicyServer):
    """`transformers serve`: loads the folder that a request names, writes prompts itself, and gives texts."""

    takes: ClassVar[Takes] = "folder"
    tells_tokens, api, path = False, "chat", "/chat/completions"

    async def load(self, wire: Wire, policy: ServedPolicy, seconds: float) -> None:
        """Load the folder."""
        told = await wire.post("/load_model", {"model": str(policy.folder)}, seconds, root=True)
        last = [line.removeprefix("data:") for line in told.splitlines() if line.startswith("data:")][-1:]
        if not last or '"ready"' not in last[0]:
            said = printable(last[0] if last else told)
            raise ModelError(f"{self.place} does not load {policy.folder}, which has to be on a disk it shares: {said}")

    def called(self, policy: ServedPolicy) -> str:
        """Return the folder."""
        return str(policy.folder)

    def body(self, request: Request, key: int, settings: Generation, ends: StopCriteria) -> dict[str, Any]:
        """Return messages."""
        if not request.messages or request.tools:
            raise ConfigError(
                f"{self.place} writes prompts itself: expected dialogues without tools or chat_template_kwargs of rows"
            )
        turns = [m._replace(weight=1.0).as_turn() for m in request.messages]
        return {"messages": turns, **self.drawing(key, settings, ends)}

    def completion(self, answer: ServedAnswer, ends: StopCriteria) -> Completion:
        """Return the text of an answer, encoded again. Raises ModelError where it is not the whole sample."""
        said = answer.choice.get("message") or {}
        if said.get("reasoning_content") or said.get("tool_calls"):
            raise ModelError(
                f"{self.place} keeps thoughts or calls of tools apart from the text, which is then no sample"
            )
        return ends.of_text(storable(answer.text), answer.finish)
