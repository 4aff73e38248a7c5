"""kill -9 while judging: acknowledged replies stay, and at most the requests under way are paid for again."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.judging.conftest import Server

PAIRS, CONCURRENCY = 40, 4
PROGRAM = f"""
import sys
from align.oracles.endpoint import Endpoint
from align.oracles.language_judge import LanguageJudge
from align.records import Message
responder = Endpoint(sys.argv[1], "judge-1", api_key_env="JUDGE_KEY", concurrency={CONCURRENCY})
judge = LanguageJudge(responder, store="judge.sqlite")
prompts = [[Message("user", f"CASE=slow {{n}}")] for n in range({PAIRS})]
found = judge.prefer(prompts, ["long answer"] * {PAIRS}, ["short"] * {PAIRS})
print(sum(p.probability == 1 for p in found))
"""


def start(server: Server) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


def acknowledged() -> set[str]:
    if not Path("judge.sqlite").exists():
        return set()
    with sqlite3.connect("judge.sqlite") as store:
        return {key for (key,) in store.execute("SELECT key FROM judge_reply")}


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_nothing_acknowledged_is_lost(server: Server, kills: int) -> None:
    draw, done = random.Random(0), 0
    for _ in range(kills):
        before, asked = acknowledged(), len(server.requests())
        process = start(server)
        while len(server.requests()) < asked + 3 and process.poll() is None:
            time.sleep(0.02)
        time.sleep(draw.uniform(0.0, 0.4) if kills < 10 else draw.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        done += 1
        assert before <= acknowledged()
    process = start(server)
    answer, _ = process.communicate(timeout=120)
    assert answer.strip() == str(PAIRS)
    assert len(acknowledged()) == 2 * PAIRS
    assert len(server.requests()) <= 2 * PAIRS + done * CONCURRENCY
    with sqlite3.connect("judge.sqlite") as store:
        noted = store.execute("SELECT count(*) FROM judge_request").fetchone()[0]
    assert noted >= len(server.requests())  # every request is counted before it is sent
