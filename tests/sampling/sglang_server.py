"""A stand-in for SGLang's server: its own API as documented, over a tiny model that really draws.

It has /model_info with `weight_version`, /generate on `input_ids` with log-probabilities as lists of value, token and
text, /load_lora_adapter, /unload_lora_adapter and /update_weights_from_disk, with the answers that its http_server.py
and tokenizer_manager.py of 0.5.6 give. Log-probabilities are those after the temperature, and a sample ends at every
token that the model's settings call an end, as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sampling.vllm_server import Faults, Handler, Model, Served, serving


@dataclass(frozen=True)
class SGLangFaults:
    """How it differs from a server that does all it should."""

    lora: bool = True
    """--enable-lora."""
    ends: tuple[int, ...] = ()
    """Further tokens that the model's settings call an end."""
    restarts_after: int = 10**9
    """Samples after which it has what it was started with, as one that was started anew."""
    version: str = "default"
    """--weight-version."""
    lies: bool = False
    """Answers that it has new weights, and keeps those it has."""


class SGLang:
    """The model with its version."""

    def __init__(self, base: Path, faults: SGLangFaults) -> None:
        self.model = Model(base, Faults(processed=True, restarts_after=faults.restarts_after, seen=False))
        self.faults, self.version, self.own = faults, faults.version, faults.version

    def update(self, body: dict[str, Any]) -> tuple[int, Any]:
        try:
            if not self.faults.lies:
                self.model.replace(body["model_path"])
        except (OSError, RuntimeError) as error:
            return 400, {"success": False, "message": f"Failed to update weights: {error}.\nRolling back."}
        self.model.stale = False  # flush_cache is true where nothing is said
        if not self.faults.lies:
            self.version = body["weight_version"]
        return 200, {"success": True, "message": "Succeeded to update model weights.", "num_paused_requests": 0}

    def load(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["lora_name"]
        if not self.faults.lora:
            return 400, _unloaded("LoRA is not enabled. Please set `--enable-lora` to enable LoRA.")
        if name in self.model.adapters:
            return 400, _unloaded(f"LoRA with name {name} already exists.")
        code, said = self.model.load(name, body["lora_path"])
        if code != 200:
            return 400, _unloaded(str(said))
        return 200, {"success": True, "error_message": None, "loaded_adapters": dict(self.model.adapters)}

    def unload(self, body: dict[str, Any]) -> tuple[int, Any]:
        code, said = self.model.unload(body["lora_name"])
        return (200, {"success": True}) if code == 200 else (400, _unloaded(str(said)))

    def generate(self, body: dict[str, Any]) -> tuple[int, Any]:
        name, sampling = body.get("lora_path"), body["sampling_params"]
        self.model.drawn += 1
        if self.model.drawn == self.faults.restarts_after:
            self.model.plain.load_state_dict(self.model.own)
            self.version = self.own
            self.model.adapters.clear()
        if name is not None and name not in self.model.adapters:
            said = f"The following requested LoRA adapters are not loaded: {{{name!r}}}"
            return 400, {"error": {"message": said}}
        if name is not None:
            self.model.adapted.set_adapter(name)
        assert not self.model.stale
        assert not sampling.get("ignore_eos")  # with which it ends nowhere, not at stop_token_ids either
        stop = {*sampling.get("stop_token_ids", ()), *self.faults.ends}
        given = {
            "prompt": body["input_ids"],
            "seed": sampling.get("sampling_seed", 0) + len(body["input_ids"]),
            "max_tokens": sampling["max_new_tokens"],
            "temperature": sampling.get("temperature", 1.0),
            "stop_token_ids": stop,
            "logprobs": body.get("top_logprobs_num", 0),
        }
        ids, told, top, finish = self.model.draw(self.model.plain if name is None else self.model.adapted, given)
        reason = {"type": "length", "length": given["max_tokens"]}
        if finish["finish_reason"] == "stop":
            reason = {"type": "stop", "matched": ids[-1]}
        meta: dict[str, Any] = {
            "finish_reason": reason,
            "prompt_tokens": len(body["input_ids"]),
            "completion_tokens": len(ids),
            "weight_version": self.version,
        }
        if body.get("return_logprob"):
            meta["output_token_logprobs"] = [[value, token, None] for value, token in zip(told, ids, strict=True)]
            meta["output_top_logprobs"] = [[[v, int(t), None] for t, v in found.items()] for found in top]
        return 200, {"text": "", "output_ids": ids, "meta_info": meta}


def _unloaded(said: str) -> dict[str, Any]:
    return {"success": False, "error_message": said, "loaded_adapters": None}


class SGLangHandler(Handler):
    """SGLang's paths."""

    served: SGLang

    def do_GET(self) -> None:
        known = {"model_path": self.model.base, "is_generation": True, "weight_version": self.served.version}
        self.answer(*((200, known) if self.path == "/model_info" else (404, {"detail": "Not Found"})))

    def found(self, body: dict[str, Any]) -> tuple[int, Any]:
        paths = {
            "/generate": self.served.generate,
            "/update_weights_from_disk": self.served.update,
            "/load_lora_adapter": self.served.load,
            "/unload_lora_adapter": self.served.unload,
        }
        return paths[self.path](body) if self.path in paths else (404, {"detail": "Not Found"})


@contextmanager
def sglang_serve(base: Path, folder: Path, **faults: Any) -> Iterator[Served]:
    """Start a server in a forked process and yield it."""
    made = SGLang(base, SGLangFaults(**faults))
    given = {"served": made, "model": made.model}
    with serving(folder, lambda log: type("Made", (SGLangHandler,), {**given, "log": log})) as served:
        yield served
