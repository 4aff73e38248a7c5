"""SGLang: adapters under a name, or weights that are replaced under a version which every answer tells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from align.errors import ModelError
from align.sampling.policy_server import ServedPolicy, Takes
from align.sampling.policy_server_kinds import SHORT, AdapterServer
from align.sampling.server_faults import printable
from align.sampling.wire import Refused, Transient, Wire

SAME = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
"""Fields that SGLang calls as vLLM does."""


class SGLangAdapterServer(AdapterServer):
    """Loads a LoRA adapter under a name, and is asked by `/generate` on tokens; its answers are read as vLLM's are.

    SGLang ends a sample at every token that the model's own settings call an end, and with `ignore_eos` at none. One
    that ended at another token than ours is drawn on from there, so that it is the sample that other engines draw.
    """

    async def ask(self, wire: Wire, body: dict[str, Any], seconds: float) -> str:
        """Return the answer to vLLM's fields, in vLLM's form. Raises Transient for a request that it gave up."""
        most, ids, told, top = body["max_tokens"], list[int](), list[Any](), list[Any]()
        versions = set[str]()
        while True:
            part = self._read(await wire.post("/generate", self._asked(body, ids), seconds, root=True))
            drawn, finish = part["output_token_logprobs"], part["finish_reason"]
            if finish["type"] == "abort":
                raise Transient(f"it gave a request up ({printable(finish.get('message', ''))})")
            ids += [int(token) for _, token, *_ in drawn]
            told += [value for value, *_ in drawn]
            top += part.get("output_top_logprobs") or []
            versions.add(str(part["weight_version"]))
            matched = finish.get("matched") if finish["type"] == "stop" else None
            ended = isinstance(matched, str) or matched in body["stop_token_ids"]
            if ended or finish["type"] == "length" or len(ids) >= most or not drawn:
                break
        choice = {
            "text": "",
            "token_ids": ids,
            "finish_reason": "stop" if ended else "length",
            "stop_reason": matched if ended else None,
            "logprobs": {
                "token_logprobs": told,
                "top_logprobs": [{str(token): value for value, token, *_ in found} for found in top],
            },
        }
        usage = {"prompt_tokens": part["prompt_tokens"] - len(ids) + len(drawn)}
        return json.dumps({"model": self._answered(versions), "choices": [choice], "usage": usage}, allow_nan=False)

    async def load(self, wire: Wire, policy: ServedPolicy, seconds: float) -> None:
        """Load the adapter unless it is there, and unload the run's former ones."""
        asked = {"lora_name": policy.name, "lora_path": str(policy.folder)}
        try:
            said = json.loads(await wire.post("/load_lora_adapter", asked, seconds, root=True))
        except Refused as error:
            if not await self._holds(wire, policy, seconds):
                raise ModelError(
                    f"{self.place} does not load the adapter {policy.folder}, which has to be on a disk it shares, and "
                    f"needs --enable-lora, --max-lora-rank and --lora-target-modules: {error}"
                ) from None
            return
        except ValueError as error:
            raise ModelError(f"{self.place}: /load_lora_adapter answers something that is no JSON") from error
        for former in said.get("loaded_adapters") or {}:
            if former.startswith(policy.run) and former != policy.name:
                await self._drop(wire, former, seconds)

    async def _holds(self, wire: Wire, policy: ServedPolicy, seconds: float) -> bool:
        """Tell whether an adapter is there: a name that is not loaded is refused."""
        asked = {"input_ids": [0], "sampling_params": {"max_new_tokens": 1}, "lora_path": policy.name}
        try:
            await wire.post("/generate", asked, seconds, root=True)
        except Refused:
            return False
        return True

    @staticmethod
    async def _drop(wire: Wire, former: str, seconds: float) -> None:
        try:
            await wire.post("/unload_lora_adapter", {"lora_name": former}, seconds, root=True)
        except Refused as error:
            if error.status != 400:  # it is gone already
                raise

    def has_forgotten(self, refusal: Refused) -> bool:
        """Tell whether a refusal names the adapter, as of one that is not loaded."""
        return refusal.status == 400 and self.model in str(refusal)

    def _asked(self, body: Mapping[str, Any], drawn: list[int]) -> dict[str, Any]:
        """Return what is sent, to go on after what was drawn."""
        sampling = {
            **{name: body[name] for name in SAME},
            "max_new_tokens": body["max_tokens"] - len(drawn),
            "sampling_seed": body["seed"],  # read in its deterministic mode, where all would have the same one else
            "stop_token_ids": body["stop_token_ids"],
            **({"stop": body["stop"]} if "stop" in body else {}),
        }
        told = {"return_logprob": True, "top_logprobs_num": body["logprobs"]}
        return {"input_ids": [*body["prompt"], *drawn], "sampling_params": sampling, **told, **self._which()}

    def _which(self) -> dict[str, str]:
        return {"lora_path": self.model}

    def _answered(self, versions: set[str]) -> str:
        """Return which policy answered: one that is not loaded is refused."""
        return self.model

    def _read(self, text: str) -> dict[str, Any]:
        """Return what an answer says beside its text."""
        try:
            part: dict[str, Any] = json.loads(text)["meta_info"]
            needed = part["output_token_logprobs"], part["weight_version"], part["prompt_tokens"]
            part["finish_reason"]["type"]
        except (ValueError, LookupError, TypeError) as error:
            raise ModelError(
                f"{self.place}: an answer without tokens and their log-probabilities ({printable(text, 80)}): it needs "
                "SGLang 0.5.2 or later"
            ) from error
        assert needed
        return part


class SGLangWeightsServer(SGLangAdapterServer):
    """Reads a folder into its model by `/update_weights_from_disk`, under a version that its answers tell."""

    takes: ClassVar[Takes] = "folder"
    replaces = True

    async def load(self, wire: Wire, policy: ServedPolicy, seconds: float) -> None:
        """Replace the weights unless they are the policy's. Raises ModelError where the server does not."""
        if await weights_of(wire) == policy.name:
            return
        asked = {"model_path": str(policy.folder), "weight_version": policy.name}
        try:
            await wire.post("/update_weights_from_disk", asked, seconds, root=True)
        except Refused as error:
            raise ModelError(
                f"{self.place} does not take the weights of {policy.folder}, which have to be on a disk it shares: "
                f"{error}"
            ) from None
        if (now := await weights_of(wire)) != policy.name:
            raise ModelError(f"{self.place}: given the weights {policy.name}, it says that it has {printable(now)!r}")

    async def leave(self, wire: Wire, seconds: float) -> None:
        """Leave the weights: what the server answers says whose they are."""

    def has_forgotten(self, refusal: Refused) -> bool:
        """Tell nothing: a server that began anew answers, by another version."""
        return False

    def _which(self) -> dict[str, str]:
        return {}

    def _answered(self, versions: set[str]) -> str:
        return versions.pop() if len(versions) == 1 else " and ".join(sorted(versions))


async def weights_of(wire: Wire) -> str | None:
    """Return the version of the weights that an SGLang server has, None of another server.

    Raises ServiceStopped or Transient for one that does not answer.
    """
    for path in ("/model_info", "/get_model_info"):  # its name before 0.5.6
        try:
            return str(json.loads(await wire.get(path, SHORT, root=True))["weight_version"])
        except (Refused, ValueError, LookupError, TypeError):  # it is something else
            continue
        except Transient as fault:
            if not fault.status:
                raise
    return None
