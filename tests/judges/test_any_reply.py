"""Whatever a server sends is stored, parsed, and counted as invalid where it is no verdict; nothing stops for good."""

from __future__ import annotations

import email.utils
import gzip
import json
import math
import socket
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from align.errors import Paused
from align.judges.chat_completion import ChatCompletion
from align.judges.verdict_store import VerdictStore
from align.judges.verdicts import parse
from align.sampling.wire import MAX_BODY, RetryPolicy, read_text, retry_after
from tests.judges.conftest import KEY, ask, judge
from tests.judges.raw import Script, as_json, completion, raw_server, response, sends

HALF = "\ud800"
"""Half of a character, which JSON can spell and no file can hold."""
VERDICT = completion("Comparison: x\nA")
NAMED = {"top_logprobs": [{"token": "m", "logprob": 10**400}, {"token": "M", "logprob": -1.0}]}
BODIES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "nothing": (b"", ()),
    "half a character": (as_json(completion(f"{HALF}\nno verdict {HALF}")), ()),
    "half a character as end": (as_json(completion("x\nA", finish=HALF)), ()),
    "half a character as model": (as_json(completion("x\nA", model=f"{HALF}judge-1")), ()),
    "NUL": (as_json(completion("a\0b\0")), ()),
    "NUL bytes": (b"\0" * 1000, ()),
    "content parts": (as_json(completion([{"type": "text", "text": [["A"]]}])), ()),
    "content object": (as_json(completion({"A": "A"})), ()),
    "content number": (as_json(completion(1)), ()),
    "no message": (as_json({"choices": [{"message": None}]}), ()),
    "choice is text": (as_json({"choices": ["A"]}), ()),
    "choices are an object": (as_json({"choices": {"0": "A"}}), ()),
    "a number": (b"7", ()),
    "a list": (b"[1]", ()),
    "text": (b'"refused"', ()),
    "end is a list": (as_json(completion("x\nA", finish=["stop", ["x"]])), ()),
    "usage is text": (as_json({**completion("nothing"), "usage": "many"}), ()),
    "deep": (b"[" * 200_000, ()),
    "deep content": (as_json(completion("x")).replace(b'"x"', b"[" * 900 + b"]" * 900), ()),
    "long number": (as_json(completion("x")).replace(b'"x"', b"9" * 5000), ()),
    "long": (as_json(completion("long " * 200_000)), ()),
    "no UTF-8": (b'{"choices": "\xff\xfe\xed\xa0\x80"}', ()),
    "escapes by charset": (b'{"x": "\\ud800"}', ("Content-Type: application/json; charset=unicode_escape",)),
    "UTF-7": (b'{"x": "+2AA-"}', ("Content-Type: application/json; charset=utf-7",)),
    "rot13": (b'{"x": 1}', ("Content-Type: application/json; charset=rot13",)),
    "hex": (b'{"x": 1}', ("Content-Type: application/json; charset=hex",)),
    "undefined": (b'{"x": 1}', ("Content-Type: application/json; charset=undefined",)),
    "broken gzip": (b"\x1f\x8b\x08 no", ("Content-Encoding: gzip",)),
    "cut gzip": (gzip.compress(as_json(VERDICT))[:-20], ("Content-Encoding: gzip",)),
    "twice gzip": (gzip.compress(gzip.compress(as_json(VERDICT))), ("Content-Encoding: gzip, gzip",)),
    "bomb": (gzip.compress(b" " * 6_000_000), ("Content-Encoding: gzip",)),
    "no coding": (b"{}", ("Content-Encoding: nonsense",)),
}


def kept(store: str = "judge.sqlite") -> list[str]:
    opened = VerdictStore(Path(store))
    rows = opened.read("SELECT body FROM judge_reply")
    opened.close()
    return [body for (body,) in rows]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", BODIES)
def test_what_is_no_verdict_is_invalid(name: str) -> None:
    """It is stored, counted, and not asked for again; the report can be written."""
    body, headers = BODIES[name]
    with raw_server(sends(response(body, *headers))) as raw:
        one = judge(raw, repeats=0, patience=RetryPolicy(timeout=30, deadline=60))  # type: ignore[arg-type]
        (found,) = ask(one, "a")
        assert math.isnan(found.probability)
        assert sum(one.report()["invalid_replies"].values()) == 2  # type: ignore[attr-defined]
        assert "" not in one.report()["invalid_replies"]
        Path("report.json").write_text(json.dumps(one.report(), ensure_ascii=False), encoding="utf-8")
        assert len(kept()) == raw.asked == 2
        (again,) = ask(judge(raw, repeats=0), "a")  # type: ignore[arg-type]
        assert math.isnan(again.probability)
        assert raw.asked == 2


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (as_json(VERDICT), ("Content-Type: text/html; charset=hex",)),
        (json.dumps(VERDICT).encode("utf-16"), ("Content-Type: application/json",)),
        (json.dumps(VERDICT).encode("utf-8-sig"), ("Content-Type: application/json; charset=ascii",)),
        (gzip.compress(as_json(VERDICT)), ("Content-Encoding: gzip",)),
        (zlib.compress(as_json(VERDICT)), ("Content-Encoding: Deflate",)),
    ],
)
def test_a_verdict_is_read_whatever_the_headers_say(data: bytes, headers: tuple[str, ...]) -> None:
    with raw_server(sends(response(data, *headers))) as raw:
        (found,) = ask(judge(raw, repeats=0), "a")  # type: ignore[arg-type]
    assert (found.shown_first, found.shown_second) == (1, 0)


def test_a_long_body_is_no_reason_for_memory() -> None:
    assert len(read_text(gzip.compress(b" " * 6_000_000), "gzip")) == MAX_BODY


@pytest.mark.parametrize(
    "text",
    [
        "[{'model': [], 'rank': 1}, {'model': 'model_2', 'rank': 2}]",
        "[{'model': {}, 'rank': 1}, {'model': set(), 'rank': 2}]",
        "{[]: 1}",
        "[{'model': 'model_1', 'rank': [1]}, {'model': 'model_2', 'rank': 2}]",
        "[{'model': 'model_1', 'rank': 1+0j}, {'model': 'model_2', 'rank': 2}]",
        "-" * 60_000 + "1",
        "(" * 60_000,
        "[{'model': 'a\0'}]",
        "9" * 5000,
    ],
)
def test_rankings_that_are_none(text: str) -> None:
    verdict = parse(ChatCompletion(text), "ranking")
    assert math.isnan(verdict.first)
    assert verdict.reason


@pytest.mark.parametrize("logprob", [10**400, math.nan, "x", None])
def test_logprobs_that_are_none(logprob: Any) -> None:
    """The letter counts then, as where a server gives none."""
    top = [{"token": "m", "logprob": logprob}, {"token": "M", "logprob": -1.0}]
    body = completion("m", logprobs={"content": [{"top_logprobs": top}]})
    with raw_server(sends(response(as_json(body)))) as raw:
        (found,) = ask(judge(raw, "alpaca_eval_2", repeats=0), "a")  # type: ignore[arg-type]
    assert (found.shown_first, found.shown_second) in ((1, 0), (0, 1))


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("3", 3, 3),
        ("0.5", 0.5, 0.5),
        ("-5", 0, 0),
        ("nan", 0, 0),
        ("inf", 0, 0),
        ("1e999", 0, 0),
        ("", 0, 0),
        ("soon", 0, 0),
        ("Fri, 01 Jan 1999 00:00:00 GMT", 0, 0),
        ("Fri, 99 Foo 99999999 00:00:00", 0, 0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 0, 1e12),
        ("LATER", 95, 101),
    ],
)
def test_retry_after(value: str, low: float, high: float) -> None:
    later = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert low <= retry_after(value.replace("LATER", later)) <= high


@pytest.mark.parametrize("value", ["nan", "-1", "inf", "0"])
def test_retry_after_without_a_time_is_backed_off(value: str) -> None:
    """A server that says `now`, or nonsense, is not asked hundreds of times."""
    with raw_server(sends(response(b"{}", f"Retry-After: {value}", status="429 no"))) as raw:
        with pytest.raises(Paused, match="status 429"):
            ask(judge(raw, concurrency=1, patience=RetryPolicy(1.0, 2.0)), "a")  # type: ignore[arg-type]
        assert 1 <= raw.asked <= 25


def drips(*parts: bytes) -> Script:
    """Send parts at once, then single bytes for ever."""

    def script(accepted: socket.socket, _: dict[str, str]) -> None:
        for part in parts:
            accepted.sendall(part)
        for _ in range(200):
            accepted.sendall(b" ")
            time.sleep(0.05)

    return script


def is_silent(accepted: socket.socket, _: dict[str, str]) -> None:
    time.sleep(10)


LATE: dict[str, Script] = {
    "silent": is_silent,
    "status": drips(b"HTTP/1.1 200"),
    "headers": drips(b"HTTP/1.1 200 OK\r\nX: "),
    "body": drips(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"),
    "chunk": drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n"),
    "until closed": drips(b"HTTP/1.1 200 OK\r\n\r\n"),
}


@pytest.mark.parametrize("name", LATE)
def test_deadlines_hold_at_every_moment(name: str) -> None:
    """The timeout is for one answer, the deadline for all tries: no try goes on beyond it."""
    begin = time.monotonic()
    with raw_server(LATE[name]) as raw, pytest.raises(Paused, match="no whole answer"):
        ask(judge(raw, concurrency=1, patience=RetryPolicy(0.7, 1.0)), "a")  # type: ignore[arg-type]
    assert time.monotonic() - begin < 8


def test_a_host_that_takes_no_connection_is_given_up_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:  # fill the queue, so that the next connection is never made
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        begin = time.monotonic()
        address = type("Raw", (), {"url": f"http://127.0.0.1:{full.getsockname()[1]}/v1"})
        with pytest.raises(Paused, match="does not answer"):
            ask(judge(address, concurrency=1, patience=RetryPolicy(0.5, 0.8)), "a")  # type: ignore[arg-type]
        assert time.monotonic() - begin < 8
        for one in waiting:
            one.close()


BROKEN = {
    "no HTTP": b"hello\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    "cut chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}",
    "cut body": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
    "bad header": b"HTTP/1.1 200 OK\r\n\xff\0: \r\n\r\n",
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    "closed": b"",
    "half a character": response(as_json({"error": {"message": HALF, "code": HALF}}), status="503 \xff"),
    "error of lists": response(as_json({"error": [[HALF]]})),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_connection_pauses_the_work(name: str) -> None:
    with raw_server(sends(BROKEN[name])) as raw, pytest.raises(Paused, match="does not answer") as caught:
        ask(judge(raw, concurrency=1, patience=RetryPolicy(0.4, 0.5)), "a")  # type: ignore[arg-type]
    str(caught.value).encode("utf-8")
