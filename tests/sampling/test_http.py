"""The HTTP engine against a real local server process: what is sent, what is retried, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from align.errors import ConfigError, ModelError, Paused
from align.records import Beside, Message
from align.sampling.generation import Generation, Request, sample_key
from align.sampling.http import HTTPEngine, Server
from align.sampling.sampler import Sampler
from tests.tiny import tiny_tokenizer

ROOT = Path(__file__).parents[2]
SETTINGS = Generation(max_new_tokens=7, num_samples=2, temperature=0.5, top_p=0.9, seed=3)
ASKED = [Request("a", [0, 40, 41], (Message("user", "hello"),)), Request("b", [0, 42], (Message("user", "hi"),))]


class Running:
    def __init__(self, url: str, log: Path) -> None:
        self.url, self.log = url, log

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def engine(self, **options: Any) -> HTTPEngine:
        given = {"api_key_env": None, "deadline": 1.0, "timeout": 1.0, "concurrency": 1, **options}
        return HTTPEngine(Server(self.url, "policy", **given), tiny_tokenizer(), [1], ("\n\nHuman:",))

    def sample(self, **options: Any) -> list[Any]:
        return Sampler(self.engine(**options), SETTINGS).sample(ASKED)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    processes = []

    def start(**faults: Any) -> Running:
        told = tmp_path / f"faults{len(processes)}.json"
        told.write_text(json.dumps({name.lstrip("_"): fault for name, fault in faults.items()}))
        command = [sys.executable, "-m", "tests.sampling.server", str(told)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        processes.append(process)
        assert process.stdout is not None
        return Running(f"http://127.0.0.1:{process.stdout.readline().strip()}/v1", told.with_suffix(".log"))

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_each_sample_is_asked_for_with_its_seed(api: str, serve: Callable[..., Running]) -> None:
    server = serve()
    found = server.sample(api=api, concurrency=3)
    seeds = [sample_key(3, 0, name, k) % 2**31 for name in "ab" for k in range(2)]
    assert [s.text for s in found] == [f"seed {seed}" for seed in seeds]
    assert all(s.ids[-1] == 1 and s.finish == "eos" for s in found)
    sent = server.requests()
    assert sorted(r["seed"] for r in sent) == sorted(seeds)
    first = next(r for r in sent if r["seed"] == seeds[0])
    assert (first["temperature"], first["top_p"], first["max_tokens"]) == (0.5, 0.9, 7)
    assert first["stop"] == ["\n\nHuman:"]
    if api == "chat":
        assert (first["path"], first["messages"]) == ("/v1/chat/completions", [{"role": "user", "content": "hello"}])
    else:
        assert (first["path"], first["prompt"]) == ("/v1/completions", [0, 40, 41])


def test_settings_of_a_prompt_go_with_it(serve: Callable[..., Running]) -> None:
    server = serve()
    engine = server.engine(api="chat", chat_template_kwargs={"enable_thinking": True, "date": "1 May"})
    beside = Beside("", {"enable_thinking": False}).as_text
    Sampler(engine, SETTINGS).sample([ASKED[0]._replace(tools=beside), ASKED[1]])
    given = [r["chat_template_kwargs"] for r in sorted(server.requests(), key=lambda r: r["messages"][0]["content"])]
    assert given == [
        *[{"enable_thinking": False, "date": "1 May"}] * 2,
        *[{"enable_thinking": True, "date": "1 May"}] * 2,
    ]


def test_what_passes_is_retried_and_ends_are_read(serve: Callable[..., Running]) -> None:
    server = serve(_0=429, _1=503, _2="cut", _4="length", _5="stop")
    found = server.sample(deadline=20.0, timeout=10.0)
    assert len(server.requests()) == 7
    assert [s.finish for s in sorted(found, key=lambda s: -len(ASKED[s.prompt].ids))] == [
        "eos",
        "length",
        "stop",
        "eos",
    ]


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (500, Paused, "does not answer"),
        (401, ModelError, "refuses"),
        (404, ModelError, "refuses"),
        ("model", ModelError, "asked for policy, 'another' answered"),
        ("empty", ModelError, "without a choice"),
    ],
)
def test_what_does_not_pass(fault: Any, error: type[Exception], said: str, serve: Callable[..., Running]) -> None:
    patience = (
        {} if error is Paused else {"timeout": 20.0, "deadline": 40.0}
    )  # a busy machine is no fault of the server
    with pytest.raises(error, match=said):
        serve(**{"*": fault}).sample(**patience)


def test_a_server_that_is_gone() -> None:
    with pytest.raises(Paused, match="does not answer"):
        Running("http://127.0.0.1:9/v1", Path()).sample()


def test_keys(serve: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLICY_KEY", raising=False)
    with pytest.raises(ConfigError, match="POLICY_KEY is not set"):
        serve().engine(api_key_env="POLICY_KEY")
    monkeypatch.setenv("POLICY_KEY", "sk-secret")
    server = serve(**{"*": 401})
    with pytest.raises(ModelError) as told:
        server.sample(api_key_env="POLICY_KEY")
    assert server.requests()[0]["auth"] == "Bearer sk-secret"
    assert "sk-secret" not in str(told.value)
    with pytest.raises(ConfigError, match="unprotected"):
        Server("http://example.org/v1", "m")
    with pytest.raises(ConfigError, match="needs prompts as messages"):
        Sampler(serve().engine(api="chat"), SETTINGS).sample([Request("a", [5])])


def test_vllm_missing_is_told() -> None:
    from align.sampling.vllm import VLLMEngine

    with pytest.raises(ConfigError, match=r"pip install 'align-lm\[vllm\]'"):
        VLLMEngine("somewhere", tiny_tokenizer(), [1])


def test_a_server_that_draws_nothing_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("align.sampling.http.ALIKE", 2)
    same, drawing = (Running("http://127.0.0.1:1/v1", Path()).engine() for _ in range(2))
    same._tell_alike([True])
    with pytest.warns(UserWarning, match="2 samples at a temperature above 0 are each the same"):
        same._tell_alike([True])
    same._tell_alike([True] * 9)  # said once
    drawing._tell_alike([True, False])
    drawing._tell_alike([True] * 9)  # it has drawn before


def test_what_a_server_left_of_a_stop_string_is_no_end() -> None:
    """That of transformers keeps the stop string and calls it an end of its own."""
    found = Running("http://127.0.0.1:1/v1", Path()).engine().ends.of_text("yes\n\nHuman: and", "eos")
    assert (found.text, found.finish, found.ids[-1:] == [1]) == ("yes", "stop", False)
