"""What servers that are given a policy may answer: what is read of it, and what is refused by name."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from align.errors import ConfigError, ModelError
from align.records import Message
from align.sampling.generation import Generation, Request
from align.sampling.policy_server import PolicyServer, ServedPolicy
from align.sampling.policy_server_finding import kind_of
from align.sampling.policy_server_kinds import AdapterServer, FolderServer
from align.sampling.stopping_criteria import StopCriteria
from align.sampling.wire import Refused, Transient
from tests.tiny import tiny_tokenizer

POLICY = ServedPolicy("align-run-abc", Path("/shared/run/served/align-run-abc"), "align-run-")
ASKED = Request("a", [0, 40, 41], (Message("user", "hello"),))
CHOICE = {"text": "x", "token_ids": [50, 51, 1], "finish_reason": "stop", "stop_reason": 1}
LOGPROBS = {"token_logprobs": [-1.5, None, -0.25]}


def ends() -> StopCriteria:
    return StopCriteria(tiny_tokenizer(), [1])


def given(server: PolicyServer) -> PolicyServer:
    server.policy = POLICY
    return server


def answer(choice: dict[str, Any], model: str = POLICY.name, **usage: int) -> str:
    return json.dumps({"model": model, "choices": [choice], "usage": {"prompt_tokens": 3, **usage}})


def test_tokens_and_what_is_told_of_them() -> None:
    found = given(AdapterServer("u")).read(answer({**CHOICE, "logprobs": LOGPROBS}), ASKED, ends())
    assert (found.ids, found.finish) == ([50, 51, 1], "eos")
    assert found.text == tiny_tokenizer().decode([50, 51])
    assert found.logprobs is not None
    assert (found.logprobs[0], found.logprobs[2]) == (-1.5, -0.25)
    assert math.isnan(found.logprobs[1])
    cut = given(AdapterServer("u")).read(
        answer({**CHOICE, "token_ids": [50], "finish_reason": "length", "stop_reason": None}), ASKED, ends()
    )
    assert (cut.ids, cut.finish, cut.logprobs) == ([50], "length", None)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (answer(CHOICE, "base"), "asked for align-run-abc, 'base' answered"),
        (answer(CHOICE, "align-run-abcd"), "'align-run-abcd' answered"),
        (answer(CHOICE, prompt_tokens=4), "read a prompt of 4 tokens, it has 3"),
        (answer({"text": "x", "finish_reason": "stop"}), "no token ids in its answer"),
        (answer({**CHOICE, "token_ids": []}), "no token ids in its answer"),
        (answer({**CHOICE, "token_ids": [50, 51]}), "ended without its last token"),
        (answer({**CHOICE, "logprobs": {"token_logprobs": [-1.0]}}), "1 log-probabilities of 3 tokens"),
        ("<html>", "an answer that is no completion"),
    ],
)
def test_answers_of_vllm_that_are_refused(body: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        given(AdapterServer("u")).read(body, ASKED, ends())


def test_answers_of_a_server_of_folders() -> None:
    server, path = given(FolderServer("u")), str(POLICY.folder)
    said = {"message": {"content": "yes"}, "finish_reason": "stop"}
    assert server.read(answer(said, f"{path}@main"), ASKED, ends()).text == "yes"
    thought = {"message": {"content": "yes", "reasoning_content": "hm"}, "finish_reason": "stop"}
    for body, told in (
        (answer(said, f"{path}-other@main"), "asked for"),
        (answer(thought, path), "keeps thoughts or calls of tools apart"),
    ):
        with pytest.raises(ModelError, match=told):
            server.read(body, ASKED, ends())
    settings = Generation(max_new_tokens=4)
    assert server.body(ASKED, 7, settings, ends())["messages"] == [{"role": "user", "content": "hello"}]
    for odd in (ASKED._replace(messages=()), ASKED._replace(tools="[]")):
        with pytest.raises(ConfigError, match="expected dialogues without tools"):
            server.body(odd, 7, settings, ends())


NO, EMPTY = Refused("status 404", 404), Refused("status 400", 400)


class FakeWire:
    """Answers as it is told, by path."""

    def __init__(self, **answers: str | Exception) -> None:
        self.answers: dict[str, str | Exception] = {"model_info": NO, "get_model_info": NO, **answers}
        self.asked = list[str]()

    async def post(self, path: str, body: dict[str, Any], seconds: float, *, root: bool = False) -> str:
        return self._of(path)

    async def get(self, path: str, seconds: float, *, root: bool = False) -> str:
        return self._of(path)

    def _of(self, path: str) -> str:
        self.asked.append(path)
        found = self.answers[path.strip("/")]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.mark.parametrize(
    ("load_lora_adapter", "load_model", "expected"),
    [
        (EMPTY, NO, AdapterServer),
        (NO, Refused("status 422", 422), FolderServer),
        (NO, NO, "cannot be given a policy"),
        ("<html>", "<html>", "cannot be given a policy"),
        (Refused("status 401: the key is not accepted", 401), NO, "engine.api_key_env names the variable"),
    ],
)
def test_how_a_server_takes_a_policy(load_lora_adapter: Any, load_model: Any, expected: Any) -> None:
    wire: Any = FakeWire(load_lora_adapter=load_lora_adapter, load_model=load_model)
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected):
            asyncio.run(kind_of(wire, "http://u/v1"))
    else:
        assert isinstance(asyncio.run(kind_of(wire, "http://u/v1")), expected)


def listed(*names: str) -> str:
    return json.dumps({"data": [{"id": name} for name in names]})


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"models": "<html>"}, "no list of models"),
        (
            {"models": listed("base"), "load_lora_adapter": Transient("status 500, rank 64 is too large", 0, 500)},
            "rank 64",
        ),
        ({"models": listed("base"), "load_lora_adapter": NO}, "has to be on a disk it shares"),
    ],
)
def test_an_adapter_that_is_not_loaded_is_told(answers: dict[str, Any], told: str) -> None:
    wire: Any = FakeWire(**answers)
    with pytest.raises(ModelError, match=told):
        asyncio.run(AdapterServer("u").take(wire, POLICY, 1.0))


def test_an_adapter_is_loaded_once_and_former_ones_go() -> None:
    held = listed("base", "align-run-abc", "align-run-old", "align-other-run")
    wire: Any = FakeWire(models=held, unload_lora_adapter=NO)
    asyncio.run(AdapterServer("u").take(wire, POLICY, 1.0))
    assert wire.asked == ["/models", "/unload_lora_adapter"]


def test_a_folder_that_is_not_loaded_is_told() -> None:
    wire: Any = FakeWire(load_model='data: {"status": "error", "message": "no such file"}\n\n')
    with pytest.raises(ModelError, match=r"does not load /shared/run.*no such file"):
        asyncio.run(FolderServer("u").take(wire, POLICY, 1.0))
