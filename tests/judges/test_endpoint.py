"""A judge behind a real HTTP server that misbehaves in every way of the specification's list."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from align.errors import ConfigError, JudgeError, Paused
from align.judges.endpoint import Budget, Endpoint
from align.judges.verdict_store import VerdictStore
from align.sampling.wire import RetryPolicy
from tests.judges.conftest import KEY, Server, ask, judge


def test_a_full_cache_asks_nothing_and_a_changed_prompt_everything(server: Server) -> None:
    cases = [f"number {n}" for n in range(5)] + ["number 0", "CASE=empty"]  # a duplicate, and one that stays invalid
    found = ask(judge(server), *cases)
    assert [p.probability for p in found[:6]] == [1] * 6
    assert len(server.requests()) == 5 * 2 + 2 * 3
    server.log.unlink()
    again = judge(server)
    assert str(ask(again, *cases)) == str(found)
    assert server.requests() == []
    assert again.report()["replies reused"] == 12
    for changed in (judge(server, temperature=0.5), judge(server, "mt_bench"), judge(server, max_tokens=100)):
        server.log.unlink(missing_ok=True)
        ask(changed, "CASE=first")
        assert len(server.requests()) in (2, 6)
    server.log.unlink()
    ask(judge(server), "number 0", first="another long answer")
    assert len(server.requests()) == 2


def test_swapped_sides_are_the_mirrored_verdict_from_the_cache(server: Server) -> None:
    one, other = ["a", "bbb", "cc"], ["aaaa", "b", "cc"]
    from align.records import Message

    prompts = [[Message("user", str(n))] for n in range(3)]
    found = judge(server).prefer(prompts, one, other)
    assert [p.probability for p in found] == [0, 1, 0.5]
    server.log.unlink()
    mirrored = judge(server).prefer(prompts, other, one)
    assert [p.probability for p in mirrored] == [1, 0, 0.5]
    assert server.requests() == []


def test_a_judge_that_always_takes_the_first_makes_ties(server: Server) -> None:
    (found,) = ask(judge(server), "CASE=first")
    assert (found.shown_first, found.shown_second, found.probability) == (1, 0, 0.5)


@pytest.mark.parametrize("case", ["limit_after", "limit", "bad_gateway", "cut", "error200", "drip"])
def test_passing_faults_are_retried(server: Server, case: str) -> None:
    begin = time.monotonic()
    patience = {"patience": RetryPolicy(timeout=1.0, deadline=30.0)} if case == "drip" else {}
    (found,) = ask(judge(server, concurrency=1, **patience), f"CASE={case}")
    assert found.probability == 1
    assert len(server.requests()) == 3
    if case == "limit_after":
        assert time.monotonic() - begin >= 1


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("limit_hour_always", "status 429"),
        ("500", "status 500"),
        ("cut_always", "connection failed"),
        ("drip_always", "no whole answer"),
        ("flood_always", "connection failed"),
        ("quota", "quota"),
        ("402", "payment"),
    ],
)
def test_what_does_not_pass_stops_with_counts(server: Server, case: str, says: str) -> None:
    """Exit code 75 with done and left; what was answered is not asked again."""
    begin = time.monotonic()
    patience = RetryPolicy(timeout=1.0, deadline=1.5)
    one = judge(server, concurrency=1, patience=patience)
    with pytest.raises(Paused, match=f"{says}.*2 of 4 replies are kept in judge.sqlite, 2 are left") as caught:
        ask(one, "fine", f"CASE={case}")
    assert caught.value.exit_code == 75
    assert time.monotonic() - begin < 4
    if case in ("limit_hour_always", "quota", "402"):
        assert len(server.requests()) == 3
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("case", "says"), [("401", "key is not accepted"), ("403", "403"), ("404", "check"), ("418", "418")]
)
def test_refusals_are_not_retried(server: Server, case: str, says: str) -> None:
    with pytest.raises(JudgeError, match=says) as caught:
        ask(judge(server, concurrency=1), f"CASE={case}")
    assert len(server.requests()) == 1
    assert caught.value.exit_code == 2
    assert KEY not in str(caught.value)


def test_redirects_are_not_followed(server: Server) -> None:
    with pytest.raises(JudgeError, match="redirects are not followed"):
        ask(judge(server, concurrency=1), "CASE=redirect")
    assert [r["path"] for r in server.requests()] == ["/v1/chat/completions"]


def test_budget_holds_over_restarts(server: Server) -> None:
    """Five requests: the sixth is never sent, in this run or the next; a larger budget goes on with the rest."""
    cases = [f"number {n}" for n in range(4)]
    for _ in range(2):
        with pytest.raises(Paused, match=r"budget is used up \(5 requests.*5 of 8 replies"):
            ask(judge(server, budget=Budget(requests=5)), *cases)
        assert len(server.requests()) == 5
    one = judge(server, budget=Budget(requests=8, input_price=10, output_price=30))
    assert [p.probability for p in ask(one, *cases)] == [1] * 4
    assert len(server.requests()) == 8
    # the server says 100 tokens in and 7 out for each of the 8
    spent = {"requests": 8, "tokens": 856, "input_tokens": 800, "output_tokens": 56}
    assert one.report()["store"] == {**spent, "cost": pytest.approx((800 * 10 + 56 * 30) / 1e6)}


def test_token_budget_is_checked_before_sending(server: Server) -> None:
    with pytest.raises(Paused, match=r"budget\.tokens 600"):
        ask(judge(server, budget=Budget(tokens=600)), "a")
    assert server.requests() == []  # the longest reply alone is 512 tokens, the prompt more than 88
    with pytest.raises(Paused, match="1 of 2 replies"):
        ask(judge(server, budget=Budget(tokens=900), concurrency=1), "a")
    assert len(server.requests()) == 1


def test_the_key_is_sent_and_kept_nowhere(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Paused):
        ask(judge(server, concurrency=1, patience=RetryPolicy(0.3, 0.6)), "fine", "CASE=500")
    assert server.requests()[0]["key"] == f"Bearer {KEY}"
    kept = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any(p.name == "judge.sqlite" for p in kept)
    assert not any(KEY.encode() in p.read_bytes() for p in kept)
    assert KEY not in repr(judge(server).responder)


def test_concurrent_requests_overlap(server: Server) -> None:
    begin = time.monotonic()
    cases = [f"CASE=limit_after {n}" for n in range(1)] + [f"n {n}" for n in range(20)]
    ask(judge(server, concurrency=4), *cases)
    assert len(server.requests()) >= 42
    assert time.monotonic() - begin < 4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"base_url": "ftp://x/v1"}, "expected http"),
        ({"base_url": "https://user:pw@x/v1"}, "without user"),
        ({"base_url": "http://example.org/v1"}, "key would travel"),
        ({"concurrency": 0}, "at least 1"),
    ],
)
def test_bad_settings(change: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        Endpoint(**{"base_url": "https://x/v1", "model": "m", **change})
    assert "pw" not in str(caught.value)


def test_a_missing_key_and_an_unreachable_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", " ")
    with pytest.raises(ConfigError, match="JUDGE_KEY is not set"):
        ask(judge(server), "a")
    monkeypatch.setattr(server, "url", "http://127.0.0.1:9/v1")
    with pytest.raises(Paused, match=r"connection failed.*0 of 2"):
        ask(judge(server, api_key_env=None, patience=RetryPolicy(0.3, 0.6)), "a")


def test_raw_replies_are_stored_before_they_are_parsed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that dies loses nothing."""
    one = judge(server, repeats=0)
    with monkeypatch.context() as patch:
        patch.setattr("align.judges.language_judge.parse", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ask(one, "a")
    assert len(server.requests()) == 2
    assert ask(judge(server, repeats=0), "a")[0].probability == 1
    assert len(server.requests()) == 2
    store = VerdictStore(Path("judge.sqlite"))
    rows = store.connection.execute("SELECT body FROM judge_reply").fetchall()
    assert [json.loads(body)["model"] for (body,) in rows] == ["judge-1"] * 2
    store.close()
