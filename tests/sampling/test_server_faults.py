"""What servers say went wrong, in the forms of several, and which setting to change."""

from __future__ import annotations

import json

import pytest

from align.errors import ConfigError
from align.judges.endpoint import Endpoint
from align.sampling.http import HTTPEngine, Server
from align.sampling.server_faults import read_error
from align.sampling.vllm import served_rank
from align.sampling.wire import Refused
from tests.tiny import tiny_tokenizer

FORBIDDEN = "[{'type': 'extra_forbidden', 'loc': ('body', 'top_k'), 'msg': 'Extra inputs are not permitted'}]"
OLD_VLLM = {"object": "error", "message": FORBIDDEN, "type": "BadRequestError", "param": None, "code": 400}
NEW_VLLM = {"error": {"message": FORBIDDEN, "type": "Bad Request", "param": None, "code": 400}}
FASTAPI = {"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}]}


@pytest.mark.parametrize("body", [OLD_VLLM, NEW_VLLM, FASTAPI], ids=["old", "new", "fastapi"])
def test_every_form_names_the_field(body: dict) -> None:
    found = read_error(json.dumps(body))
    assert found is not None
    assert "top_k" in found["message"]
    assert "not permitted" in found["message"]


def test_an_answer_is_no_error() -> None:
    assert read_error(json.dumps({"object": "chat.completion", "choices": [{}], "detail": "low"})) is None
    assert read_error(json.dumps({"object": "list", "data": []})) is None


def refused(error: Refused, **options: object) -> str:
    engine = HTTPEngine(Server("http://x/v1", "m", api_key_env=None, **options), tiny_tokenizer(), [1])
    return str(engine._told(error))


def test_the_setting_to_drop_is_told_in_one_line() -> None:
    fault = Refused(f"status 400, {FORBIDDEN}", 400)
    told = refused(fault, extra={"top_k": -1, "min_p": 0})
    assert told.endswith("the server does not take top_k: leave out extra.top_k")
    assert "\n" not in told
    chat = Refused("status 400, chat_template_kwargs: Extra inputs are not permitted", 400)
    assert refused(chat, api="chat", chat_template_kwargs={"a": 1}).endswith("leave it out, or update the server")
    assert "does not take" not in refused(Refused("status 401 top_k", 401), extra={"top_k": 1})
    assert "does not take" not in refused(fault)  # nothing of ours: the server's own words stand alone


def test_the_judge_names_its_own() -> None:
    old = Endpoint("http://x/v1", "m", None, limit_field="max_completion_tokens", extra={"seed": 0})
    assert old.settings_of_fields() == {
        "seed": "leave out extra.seed",
        "max_completion_tokens": "set limit_field max_tokens",
        "temperature": "set temperature 1",
    }


def test_fields_with_a_setting_are_not_extra() -> None:
    with pytest.raises(ConfigError, match="extra must not set 'temperature'"):
        Server("http://x/v1", "m", api_key_env=None, extra={"temperature": 1})


@pytest.mark.parametrize(
    ("adapter", "rank"), [({"r": 1}, 8), ({"r": 8}, 8), ({"r": 12}, 16), ({"r": 4, "rank_pattern": {"q": 40}}, 64)]
)
def test_ranks_that_vllm_takes(adapter: dict, rank: int) -> None:
    assert served_rank(adapter) == rank


def test_a_rank_beyond_is_told() -> None:
    with pytest.raises(ConfigError, match="rank 512 at most, this one has 600: merge it first"):
        served_rank({"r": 600})
