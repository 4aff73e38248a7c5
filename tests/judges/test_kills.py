"""kill -9 while judging: no paid verdict is lost or asked again; at most the requests under way are paid for twice."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from align.judges.judge_prompts import JudgePrompt
from tests.judges.conftest import Server, endpoint

CONCURRENCY = 4
TEXTS = ("long answer", "short")
PROGRAM = f"""
import os, sys
from align.judges.endpoint import Endpoint
from align.judges.language_judge import LanguageJudge
from align.records import Message

def judge(url, pairs):
    responder = Endpoint(url, "judge-1", api_key_env="JUDGE_KEY", concurrency={CONCURRENCY})
    prompts = [[Message("user", f"CASE=slow {{n}}")] for n in range(pairs)]
    judge = LanguageJudge(responder, store="judge.sqlite")
    found = judge.prefer(prompts, ["{TEXTS[0]}"] * pairs, ["{TEXTS[1]}"] * pairs)
    print(sum(p.probability == 1 for p in found), flush=True)

for line in sys.stdin:
    url, pairs = line.split()
    child = os.fork()
    if child == 0:
        judge(url, int(pairs))
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""
"""Imports once, then judges in a process of its own for every line it reads."""
Question = tuple[int, bool]
"""Number of the prompt, and whether the long answer stood first."""


class Nursery:
    """Starts processes that judge."""

    def __init__(self, server: Server, pairs: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        self.order = f"{server.url} {pairs}\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def start(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(self.order)
        self.process.stdin.flush()
        return int(self.line())

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def keys(server: Server, pairs: int) -> dict[str, Question]:
    settings = json.dumps(endpoint(server).settings(), sort_keys=True)
    return {
        JudgePrompt().question(f"CASE=slow {n}", TEXTS[swap], TEXTS[1 - swap], settings).key: (n, not swap)
        for n in range(pairs)
        for swap in (0, 1)
    }


def kept(known: dict[str, Question]) -> dict[Question, str]:
    """Return the raw replies of the store."""
    if not Path("judge.sqlite").exists():
        return {}
    with sqlite3.connect("judge.sqlite") as store:
        rows = store.execute("SELECT key, body FROM judge_reply").fetchall()
    assert len(rows) == len({key for key, _ in rows})
    return {known[key]: body for key, body in rows}


def asked(server: Server, first: int) -> list[Question]:
    """Return what the server was asked since its request number `first`."""
    found = []
    for request in server.requests()[first:]:
        text = request["body"]["messages"][-1]["content"]
        number = re.search(r"CASE=slow (\d+)", text)
        assert number is not None
        found.append((int(number.group(1)), text.index(TEXTS[0]) < text.index(TEXTS[1])))
    return found


@pytest.mark.parametrize(("kills", "pairs"), [(2, 40), pytest.param(200, 1200, marks=pytest.mark.slow)])
def test_nothing_paid_for_is_lost(server: Server, kills: int, pairs: int) -> None:
    draw, known = random.Random(0), keys(server, pairs)
    lost = again = under_way = first = 0
    nursery = Nursery(server, pairs)
    for _ in range(kills):
        before, first = kept(known), server.count()
        child = nursery.start()
        while server.count() < first + 3:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.15))
        os.kill(child, signal.SIGKILL)
        assert nursery.line() == "ended"  # it had work left when it was killed
        time.sleep(0.15)  # the server notes what still reached it
        after, sent = kept(known), asked(server, first)
        lost += sum(after.get(question) != body for question, body in before.items())
        again += sum(question in before for question in sent)
        under_way += len(sent) - (len(after) - len(before))
    first = server.count()
    nursery.start()
    assert (nursery.line(), nursery.line()) == (str(pairs), "ended")
    nursery.process.terminate()
    nursery.process.wait(10)
    again += len(asked(server, first)) - (2 * pairs - len(after))
    requests = server.count()
    twice = requests - 2 * pairs
    print(
        f"\n{kills} kills, {2 * pairs} verdicts: {lost} lost, {again} asked for again though kept, {requests} requests: "
        f"{twice} paid for twice, {under_way} under way at a kill (at most {kills * CONCURRENCY})"
    )
    assert (lost, again) == (0, 0)
    assert twice == under_way <= kills * CONCURRENCY
    with sqlite3.connect("judge.sqlite") as store:
        noted = store.execute("SELECT count(*) FROM judge_request").fetchone()[0]
    assert noted >= requests  # every request is counted before it is sent
