"""lm-eval's tasks on a served model: what a folder gives, when its server answers with the folder's own numbers."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.errors import ConfigError, ModelError
from align.evaluation.lm_eval_endpoints import check_server, faults_told, served, server_of
from align.models.asked import PLAIN, asking_of
from align.models.condition_file import write_condition_file
from align.records import Instructions
from align.records.asking import MeasuredModel
from tests.cli.things import TEMPLATE
from tests.evaluation.test_lm_eval_tasks import tasks
from tests.tiny import save_tiny

pytest.importorskip("lm_eval")
__all__ = ["tasks"]


class Served(ThreadingHTTPServer):
    """Scores and completes with a model of this process, and keeps what it was asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.model, self.asked, self.echoes = AutoModelForCausalLM.from_pretrained(folder).eval(), [], True
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        if "messages" in body:
            said = " ".join(turn["content"] for turn in body["messages"])
            return {"message": {"role": "assistant", "content": said}}
        if not body.get("echo"):
            return {"text": self.tokenizer.decode(body["prompt"][0])[::-1]}
        ids = body["prompt"][0] if isinstance(body["prompt"][0], list) else body["prompt"]
        if not self.echoes:
            return {"text": "", "logprobs": {"token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}]}}
        with torch.no_grad():
            logprobs = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        own = [None, *logprobs[:-1].gather(1, torch.tensor(ids)[1:, None])[:, 0].tolist()]
        best = [None, *({"": value} for value in logprobs[:-1].max(-1).values.tolist())]
        return {"text": "", "logprobs": {"token_logprobs": [*own, -9.0], "top_logprobs": [*best, {"": -1.0}]}}


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        text = json.dumps({"model": "m", "choices": [{"index": 0, **server.answer(body)}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model", template=TEMPLATE, initializer_range=0.7)


@pytest.fixture
def server(folder: Path) -> Iterator[Served]:
    found = Served(folder)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def test_a_served_model_has_the_measures_of_its_folder(
    tasks: Path, folder: Path, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last document, and the key of another service stays at home."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other-0123456789abcdef")
    words = ["benchmark", "lm-eval", "--models.own", str(folder), "--models.served.base_url", server.url]
    words += ["--models.served.model", "m", "--models.served.path", str(folder), "--models.served.api_key_env", "null"]
    assert main([*words, "--tasks", "own_choice", "--include", str(tasks), "--out", "o.json"]) == 0
    own, served = (m["results"][0] for m in json.loads(Path("o.json").read_text())["models"])
    assert served == own
    assert len(server.asked) == 2 * 9
    assert {(sent["path"], sent["key"]) for sent in server.asked} == {("/v1/completions", None)}


def made(server: Served, path: str = "", **settings: Any) -> Any:
    asked = MeasuredModel(path=path, base_url=server.url, model="m", api_key_env=None, **settings)
    at = server_of(asked)
    assert at is not None
    return served(at, path, asking_of(path) if path else PLAIN)[0]


def test_a_conditioned_model_is_asked_its_own_way(folder: Path, server: Served) -> None:
    from lm_eval.api.instance import Instance

    write_condition_file(Instructions("Be good.", "Be bad."), folder)
    for api in ("chat", "completions"):
        model = made(server, str(folder), api=api)
        text = model.apply_chat_template([{"role": "user", "content": "Hi"}])
        assert "Be good.\\n\\nHi" in getattr(text, "prompt", json.dumps(text))
        request = Instance("generate_until", {}, (text, {"until": ["\n"], "max_gen_toks": 4}), 0)
        (found,) = model.generate_until([request])
        sent = server.asked[-1]
        if api == "chat":
            assert (sent["path"], found) == ("/v1/chat/completions", "Be good.\n\nHi")
            assert sent["stop"] == ["\n"]
        else:
            # as lm-eval writes it for a folder: one BOS in front, where the tokenizer puts one
            assert found == "<s>[user]Be good.\n\nHi[assistant]"[::-1]
            assert model.tok_encode("<s>a") == model.tok_encode("a")


def test_what_a_server_cannot_do_is_told(folder: Path, server: Served) -> None:
    """A server that ignores `echo` would give every text the same score, 0."""
    server.echoes = False
    model = made(server, str(folder))
    model.max_retries = 1
    with pytest.raises(ModelError, match="gave 1 log-probabilities for a prompt of"):
        model._loglikelihood_tokens([(("a", "b"), [5, 6], [7])])
    asked = server_of(MeasuredModel(base_url=server.url, model="m", api="chat", api_key_env=None))
    with pytest.raises(ConfigError, match="api chat: a task scores texts"), faults_told(asked):
        made(server, api="chat").loglikelihood([])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "needs a path, or the base_url"),
        ({"path": "p", "model": "m"}, "name its base_url too"),
        ({"base_url": "http://localhost:1/v1"}, "name the model to ask"),
        ({"base_url": "http://localhost:1/v1", "model": "m"}, "name the folder of the tokenizer as path"),
        ({"base_url": "http://example.org/v1", "model": "m", "api": "chat"}, "a key would travel unprotected"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        server_of(MeasuredModel(**settings))


def test_a_server_that_is_down_is_told_before_anything_is_measured(folder: Path, server: Served) -> None:
    """Found by hand: the model before it was measured first, and the fault stood above 600 lines of tracebacks."""
    asked = {"model": "m", "api": "chat", "api_key_env": None}
    at = server_of(MeasuredModel(base_url=server.url, **asked))
    assert at is not None
    check_server(at)  # it answers, though not to what is asked
    down = server_of(MeasuredModel(base_url="http://127.0.0.1:9/v1", **asked))
    assert down is not None
    with pytest.raises(ModelError, match=r"server http://127.0.0.1:9/v1: does not answer .*: is it running"):
        check_server(down)


def test_requests_under_way_are_not_told_when_one_has_failed(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    with (
        pytest.raises(ModelError, match="no answer"),
        faults_told(server_of(MeasuredModel(base_url=server.url, model="m", api="chat"))),
    ):
        raise KeyError("x")
    logging.getLogger("asyncio").error("Task exception was never retrieved")
    logging.getLogger("asyncio").error("another")
    assert [record.getMessage() for record in caplog.records] == ["another"]
