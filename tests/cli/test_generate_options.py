"""Every option of `align generate` in every mode: it changes something, or is refused before a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.server import ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from align.cli.generate import generate
from align.sampling import http
from tests.cli.model_options import DRAWN, GREEDY_REFUSED, MODEL, MODEL_REFUSED
from tests.cli.observing import Observed, Seen, Verb, check, options_of
from tests.cli.pooled import POOL
from tests.cli.rayed import RAY
from tests.sampling.server import Handler

BASE = ("--model.path", "THINGS/model", "--generation.max_new_tokens", "6")
PROMPTS = (*BASE, "--prompts", "THINGS/pairs.jsonl")
SERVED = ("--server.base_url", "URL", "--server.model", "m", "--server.api_key_env", "null")
ALPACA = ("--answers", "alpaca_eval", "--prompts", "THINGS/alpaca.json", "--out", "out.txt")
STEER = ("--steer", "THINGS/vectors.safetensors", "--coefficient", "3")
MODES = {
    "drawn": PROMPTS,
    "greedy": (*PROMPTS, "--generation.temperature", "0", "--under", "negative"),
    "steered": (*PROMPTS, *STEER, "--under", "positive"),
    "chat": (*PROMPTS, *SERVED, "--server.api", "chat"),
    "served": (*BASE, *ALPACA, *SERVED),
    "mt": (*BASE, "--answers", "mt_bench", "--prompts", "THINGS/mt.jsonl", "--out", "out.txt"),
}
SERVER = ("served", "chat")
ANSWERS = ("served", "mt")
TOLD = ("greedy", "steered")
OPTIONS = {
    **MODEL,
    "prompt": ("--prompt", "Hello"),
    "prompts": ("--prompts", "THINGS/pairs2.jsonl"),
    "direction": ("--direction", "0.8,-0.6"),
    "angle": ("--angle", "-30"),
    "ratings": ("--model.path", "THINGS/rated", "--ratings", "80,20"),
    "out": ("--out", "there/other.txt"),
    "template": ("--template", "plain"),
    "chat_template_kwargs": ("--chat_template_kwargs", "{loud: true}"),
    **DRAWN,
    "under": ("--under", "negative"),
    "instructions.positive": ("--instructions.positive", "Be kind."),
    "instructions.negative": ("--instructions.negative", "Be rude."),
    "instructions.placement": ("--instructions.placement", "system"),
    "system": ("--system", "Be brief."),
    "plain": ("--plain", "true"),
    "steer": STEER,
    "vector": ("--vector", "pca"),
    "layers": ("--layers", "[1]"),
    "coefficient": ("--coefficient", "9"),
    "where": ("--where", "prompt"),
    "answers": ("--answers", "alpaca_eval", "--prompts", "THINGS/alpaca2.json", "--out", "o.txt"),
    "name": ("--name", "mine"),
    "engine": ("--engine", "vllm"),
    "server.base_url": (*SERVED, "--server.base_url", "ELSEWHERE"),
    "server.model": (*SERVED, "--server.model", "m-2026"),
    "server.api": (*SERVED, "--server.api", "chat"),
    "server.api_key_env": (*SERVED, "--server.api_key_env", "SERVER_KEY"),
    "server.chat_template_kwargs": (*SERVED, "--server.chat_template_kwargs", "{loud: true}"),
    "server.extra": (*SERVED, "--server.extra", "{top_k: 5}"),
    "server.concurrency": (*SERVED, "--server.concurrency", "3"),
    "server.timeout": (*SERVED, "--server.timeout", "5"),
    "server.deadline": (*SERVED, "--server.deadline", "700"),
    **POOL,
    "pool.urls": ("--pool.urls", "[http://a:1/v1]"),
    **RAY,
}
OTHERWISE = {
    **{(mode, "model.path"): ("--model.path", "THINGS/two") for mode in SERVER},
    ("served", "answers"): ("--answers", "mt_bench", "--prompts", "THINGS/mt2.jsonl"),
    ("served", "prompts"): ("--prompts", "THINGS/alpaca2.json"),
    ("mt", "prompts"): ("--prompts", "THINGS/mt2.jsonl"),
    ("greedy", "under"): ("--under", "positive"),
    ("steered", "steer"): ("--steer", "THINGS/vectors2.safetensors"),
    ("chat", "server.api"): ("--server.api", "completions"),
}
INSIDE = "changes states inside the model"


def rows(names: str, reason: str, modes: Iterable[str] = ("*",)) -> dict[tuple[str, str], str]:
    return {(mode, name): reason for name in names.split() for mode in modes}


def but(*modes: str) -> list[str]:
    return [mode for mode in MODES if mode not in modes]


REFUSED = {
    **MODEL_REFUSED,
    **rows("vector layers coefficient where", "belongs to --steer", but("steered")),
    **rows("instructions.positive instructions.negative instructions.placement", "belongs to --under", but(*TOLD)),
    **rows("instructions.positive", "belongs to --under positive", ["greedy"]),
    **rows("instructions.negative", "belongs to --under negative", ["steered"]),
    **rows("plain", "plain asks for nothing, under for something", TOLD),
    **rows("name", "belongs to --answers", but(*ANSWERS)),
    **rows("prompt", "--answers asks the prompts of the benchmark's file", ANSWERS),
    **rows("engine", "pip install 'align-lm[vllm]'"),
    **rows("engine", "--server draws instead", SERVER),
    **rows("engine", INSIDE, ["steered"]),
    **rows("steer", INSIDE, SERVER),
    **rows("pool.urls", INSIDE, ["steered"]),
    **rows("pool.urls", "--pool draws instead", SERVER),
    **rows("ray.workers", INSIDE, ["steered"]),
    **rows("ray.workers", "--ray draws instead", SERVER),
    **rows("server.chat_template_kwargs", "is for a server that writes the prompts", ["served"]),
    **rows("server.base_url", INSIDE, ["steered"]),
    **rows(
        "model.dtype model.attn_implementation model.random_init model.quantization model.check",
        "load the weights in their own way",
        SERVER,
    ),
    **rows("generation.batch_tokens", "make their own batches", SERVER),
    **rows("template model.chat_template", "has prompts written by the server", ["chat"]),
    **rows("generation.num_samples", "one answer each is read", ANSWERS),
    **rows("generation.temperature", "asks at the temperature of each category", ["mt"]),
    **{("greedy", name): reason for name, reason in GREEDY_REFUSED.items()},
}
GROUP = [name for name in OPTIONS if name.startswith("server.") and name != "server.base_url"]
"""What a server is told, once there is one."""
TWICE = {(mode, option) for mode in ("steered", *SERVER) for option in ("pool.urls", "ray.workers")}
"""Where others have nothing to do; what they are told elsewhere is tried in test_pool_options and test_ray_options."""
VERB = Verb(generate, "generate", MODES, OPTIONS, OTHERWISE, REFUSED)


def test_every_option_is_tried() -> None:
    assert options_of(generate) == set(OPTIONS)


@pytest.mark.parametrize(
    ("mode", "option"),
    [
        case
        for case in VERB.cases()
        if (case[1] not in GROUP or case[0] in SERVER) and (case[1] not in {**POOL, **RAY} or case in TWICE)
    ],
)
def test_option(mode: str, option: str, observed: Observed, servers: tuple[str, str]) -> None:
    def run(words: Sequence[str]) -> Seen:
        places = dict(zip(("URL", "ELSEWHERE"), servers, strict=True))
        return observed([places.get(word, word) for word in words])

    check(VERB, mode, option, run)


@pytest.mark.parametrize("option", ["steer", "model.dtype", "model.random_init", "generation.batch_tokens"])
def test_vllm_refuses_what_it_would_not_read(option: str, observed: Observed) -> None:
    tried = observed(["generate", *PROMPTS, "--engine", "vllm", *OPTIONS[option]])
    assert "--engine vllm" in tried.said


@pytest.mark.parametrize("option", ["steer", "model.check"])
def test_continuous_batching_refuses_what_it_would_not_read(option: str, observed: Observed) -> None:
    tried = observed(["generate", *PROMPTS, "--engine", "continuous", *OPTIONS[option]])
    assert "--engine continuous" in tried.said


def test_continuous_batching_draws_the_same_samples(observed: Observed, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["generate", *PROMPTS, "--generation.num_samples", "2", "--out", "out.txt"]
    ours = observed(words)
    theirs = observed([*words, "--engine", "continuous"])
    assert theirs.files == ours.files
    assert theirs.inputs != ours.inputs  # in other steps


@pytest.fixture(scope="module")
def servers(recorder: list[str]) -> Iterator[tuple[str, str]]:
    """Two servers in threads of this process; what they are asked is part of what is seen."""

    class Recording(Handler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            recorder.append(f"{self.server.server_port} {self.path} {self.headers.get('Authorization')} {body}")
            self.answer(200, self.completion(body, None))

    running = [ThreadingHTTPServer(("127.0.0.1", 0), Recording) for _ in range(2)]
    for server in running:
        Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("SERVER_KEY", "sesame")
    for place, name in ((http.asyncio, "Semaphore"), (http, "RetryPolicy")):
        monkeypatch.setattr(place, name, _noting(getattr(place, name), recorder))
    yield tuple(f"http://127.0.0.1:{server.server_port}/v1" for server in running)  # type: ignore[misc]
    monkeypatch.undo()
    for server in running:
        server.shutdown()
        server.server_close()


def _noting(original: Callable[..., Any], notes: list[str]) -> Callable[..., Any]:
    """Wrap what a setting is handed to, and note it."""

    def call(*values: Any, **named: Any) -> Any:
        notes.append(f"{original.__name__} {values}")
        return original(*values, **named)

    return call
