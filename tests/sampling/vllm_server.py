"""A stand-in for `vllm serve` in a process of its own: its API as documented, over a tiny model that really draws.

It has what vLLM 0.10.2 and later have under the same paths: /v1/models, /v1/load_lora_adapter, /v1/unload_lora_adapter
and /v1/completions on token ids, with `return_token_ids`, `logprobs`, `stop_token_ids`, `ignore_eos`, `seed` and its
`--logprobs-mode`; in its development mode /collective_rpc with `reload_weights(weights_path)` as 0.14 has it, and
/reset_prefix_cache. Adapters are PEFT's own. What is not there: continuous batching, stop strings, and any speed.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.resume.runs import forked


@dataclass(frozen=True)
class Faults:
    """How it differs from a server that does all it should."""

    processed: bool = False
    """--logprobs-mode processed_logprobs; vLLM's own default is raw_logprobs."""
    adapters: bool = True
    """Whether VLLM_ALLOW_RUNTIME_LORA_UPDATING is set."""
    ids: bool = True
    """False: a version before return_token_ids."""
    logprobs: bool = True
    dies_after: int = 10**9
    """Completions after which it is killed."""
    forgets_after: int = 10**9
    """Completions after which it knows no adapter any more, once, as one that was started anew."""
    develops: bool = False
    """Whether VLLM_SERVER_DEV_MODE is set."""
    restarts_after: int = 10**9
    """Completions after which it leaves one without an answer and has its own weights, as one that was started anew."""
    seen: bool = True
    """Whether a request was under way when it was started anew."""
    named: str = ""
    """--served-model-name; the folder's path where it is empty, as in vLLM."""
    pause: float = 0.0
    """Seconds more for every token that is asked for, of as many samples at a time as are asked for."""
    drift: float = 0.0
    """Added to every log-probability it tells."""


class Model:
    """The base model with what was loaded on it."""

    def __init__(self, base: Path, faults: Faults) -> None:
        self.faults, self.base, self.adapters = faults, str(base), dict[str, str]()
        self.plain = AutoModelForCausalLM.from_pretrained(base).eval()
        self.adapted: Any = None
        self.lock, self.drawn = threading.Lock(), 0
        self.own = {name: tensor.clone() for name, tensor in self.plain.state_dict().items()}
        self.stale = False
        """Whether prompts are cached that were read with former weights."""

    def load(self, name: str, path: str) -> tuple[int, Any]:
        if not name or not path:
            return 400, _error("Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput", 400)
        if name in self.adapters:
            return 400, _error(f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput", 400)
        if not (Path(path) / "adapter_config.json").exists():
            return 404, _error(f"Loading lora {name} failed: No adapter found for {path}", "NotFoundError", 404)
        if self.adapted is None:
            self.adapted = PeftModel.from_pretrained(self.plain, path, adapter_name=name.replace(".", "_")).eval()
        else:
            self.adapted.load_adapter(path, adapter_name=name)
        self.adapters[name] = path
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> tuple[int, Any]:
        if name not in self.adapters:
            return 404, _error(f"The lora adapter '{name}' cannot be found.", "NotFoundError", 404)
        del self.adapters[name]
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def develop(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/reset_prefix_cache":
            self.stale = False
            return 200, None
        if "method" not in body:
            return 400, {"detail": "Missing 'method' in request body"}
        assert body["method"] == "reload_weights"
        try:
            self.replace(body["kwargs"]["weights_path"])
        except (OSError, RuntimeError) as error:
            return 500, {"error": {"message": str(error), "type": "InternalServerError", "code": 500}}
        return 200, {"results": [None]}

    def replace(self, path: str) -> None:
        """Read other weights of the same shapes."""
        self.plain.load_state_dict(AutoModelForCausalLM.from_pretrained(path).state_dict())
        self.stale = True

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        self.drawn += 1
        assert not self.stale
        if self.drawn == self.faults.restarts_after:
            self.plain.load_state_dict(self.own)
            if self.faults.seen:
                return 0, None
        if self.drawn > self.faults.dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.drawn == self.faults.forgets_after:
            self.adapters.clear()
        name = body["model"]
        if name != (self.faults.named or self.base) and name not in self.adapters:
            return 404, _error(f"The model `{name}` does not exist.", "NotFoundError", 404)
        if name in self.adapters:
            self.adapted.set_adapter(name)
        assert body["top_k"] in (-1, 0)  # or the model's own generation settings would decide
        ids, told, top, finish = self.draw(self.adapted if name in self.adapters else self.plain, body)
        choice: dict[str, Any] = {"index": 0, "text": "", **finish, "logprobs": None}
        if self.faults.ids and body.get("return_token_ids"):
            choice |= {"token_ids": ids, "prompt_token_ids": body["prompt"]}
        if self.faults.logprobs and body.get("logprobs") is not None:
            choice["logprobs"] = {"token_logprobs": told, "top_logprobs": top, "tokens": [], "text_offset": []}
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(ids)}
        return 200, {"id": "cmpl-1", "object": "text_completion", "model": name, "choices": [choice], "usage": usage}

    @torch.no_grad()
    def draw(self, model: Any, body: dict[str, Any]) -> tuple[list[int], list[float], list[Any], dict[str, Any]]:
        ids, told, top = list(body["prompt"]), [], []
        stream = torch.Generator().manual_seed(body["seed"])
        for _ in range(body["max_tokens"]):
            logits = model(torch.tensor([ids])).logits[0, -1]
            scaled = (logits / (body["temperature"] or 1.0)).log_softmax(-1)
            shown = scaled if self.faults.processed else logits.log_softmax(-1)
            token = (
                int(torch.multinomial(scaled.exp(), 1, generator=stream))
                if body["temperature"]
                else int(scaled.argmax())
            )
            ids.append(token)
            told.append(float(shown[token]) + self.faults.drift)
            top.append({str(int(shown.argmax())): float(shown.max())} if body.get("logprobs") else {})
            if token in body["stop_token_ids"]:
                return ids[len(body["prompt"]) :], told, top, {"finish_reason": "stop", "stop_reason": token}
        return ids[len(body["prompt"]) :], told, top, {"finish_reason": "length", "stop_reason": None}


def _error(message: str, kind: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class Handler(BaseHTTPRequestHandler):
    """Answers what `found` says, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    model: Model
    log: Path

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.log.open("a") as file:
            print(json.dumps({"path": self.path, **body}), file=file)
        time.sleep(self.pause(body))
        with self.model.lock:
            self.answer(*self.found(body))

    def pause(self, body: dict[str, Any]) -> float:
        return 0.0

    def found(self, body: dict[str, Any]) -> tuple[int, Any]:
        raise NotImplementedError

    def answer(self, code: int, body: Any) -> None:
        if not code:
            self.close_connection = True
            return
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


class VLLMHandler(Handler):
    """vLLM's paths."""

    def do_GET(self) -> None:
        model = self.model
        roots = {model.faults.named or model.base: model.base, **model.adapters}
        own = next(iter(roots))
        cards = [
            {"id": n, "object": "model", "owned_by": "vllm", "root": root, "parent": None if n == own else own}
            for n, root in roots.items()
        ]
        known = {"object": "list", "data": cards}
        self.answer(*((200, known) if self.path == "/v1/models" else (404, {"detail": "Not Found"})))

    def pause(self, body: dict[str, Any]) -> float:
        return self.model.faults.pause * body.get("max_tokens", 0)

    def found(self, body: dict[str, Any]) -> tuple[int, Any]:
        model = self.model
        if self.path == "/v1/completions":
            return model.complete(body)
        if model.faults.develops and self.path in ("/collective_rpc", "/reset_prefix_cache"):
            return model.develop(self.path, body)
        if model.faults.adapters and self.path == "/v1/load_lora_adapter":
            return model.load(body["lora_name"], body["lora_path"])
        if model.faults.adapters and self.path == "/v1/unload_lora_adapter":
            return model.unload(body["lora_name"])
        return 404, {"detail": "Not Found"}


@dataclass
class Served:
    """One server that runs."""

    url: str
    log: Path
    process: BaseProcess
    sockets: list[socket.socket] = field(default_factory=list)

    def asked(self, path: str) -> list[dict[str, Any]]:
        """Return what it was asked under a path, with /v1 or without."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [row for row in map(json.loads, lines) if row["path"].removeprefix("/v1") == f"/{path}"]


@contextmanager
def vllm_serve(base: Path, folder: Path, **faults: Any) -> Iterator[Served]:
    """Start a server in a forked process and yield it."""
    made = Model(base, Faults(**faults))
    with serving(folder, lambda log: type("Made", (VLLMHandler,), {"model": made, "log": log})) as served:
        yield served


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


@contextmanager
def serving(folder: Path, handler: Callable[[Path], type[BaseHTTPRequestHandler]]) -> Iterator[Served]:
    """Start a server in a forked process, its port bound before, so that nobody waits for it."""
    listening = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = listening.server_port
    log = folder / f"server-{port}.log"

    def serve() -> int:
        faulthandler.cancel_dump_traceback_later()  # it lives as long as its test, whose runs have limits of their own
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        listening.RequestHandlerClass = handler(log)
        listening.serve_forever()
        return 0

    process = forked(serve)
    listening.socket.close()
    try:
        yield Served(f"http://127.0.0.1:{port}/v1", log, process)
    finally:
        process.kill()
        process.join()
