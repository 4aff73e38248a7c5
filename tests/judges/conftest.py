"""The misbehaving judge as a process, and a judge of ours that asks it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from align.judges.endpoint import Endpoint
from align.judges.judge_prompts import JudgePrompt
from align.judges.language_judge import LanguageJudge
from align.records import Message
from align.sampling.wire import RetryPolicy

KEY = "sk-marker-0123456789abcdef"


class Server:
    """A running server and its log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py")), str(log)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def count(self) -> int:
        return self.log.read_bytes().count(b"\n") if self.log.exists() else 0


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("judge") / "log.jsonl")
    yield server
    server.process.terminate()
    server.process.wait(10)


@pytest.fixture
def server(_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server with an empty log, and the key in the environment."""
    _server.log.unlink(missing_ok=True)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    return _server


def endpoint(server: Server, **changes: Any) -> Endpoint:
    settings = {"api_key_env": "JUDGE_KEY", "patience": RetryPolicy(timeout=10.0, deadline=30.0), **changes}
    return Endpoint(server.url, "judge-1", **settings)


def judge(server: Server, template: str = "rahf", form: Any = None, repeats: int = 2, **changes: Any) -> LanguageJudge:
    prompt = JudgePrompt(template, form)
    return LanguageJudge(endpoint(server, **changes), prompt, repeats=repeats, store="judge.sqlite")


def ask(one: LanguageJudge, *cases: str, first: str = "long answer", second: str = "short") -> Any:
    prompts = [[Message("user", f"Question {case}?")] for case in cases]
    return one.prefer(prompts, [first] * len(cases), [second] * len(cases))
