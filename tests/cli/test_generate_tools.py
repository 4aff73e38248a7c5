"""`align generate` on prompts with tools: they reach the template, or the row is named with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from align.cli.generate import read_prompts
from align.cli.main import main
from align.errors import ConfigError
from align.sampling.generation import Generation, Job, Request
from align.sampling.http import HTTPEngine, Server
from tests.cli.things import TEMPLATE, lines
from tests.tiny import save_tiny

TOOLS = [{"type": "function", "function": {"name": "weather", "description": "", "parameters": {}}}]
WRITES = "{% if tools %}{{ tools[0].function.name }}{% endif %}" + TEMPLATE
ROW = {"prompt": [{"role": "user", "content": "Hi"}], "tools": TOOLS}


def words(folder: Path, *more: str) -> list[str]:
    lines(Path("p.jsonl"), [ROW, {"prompt": ROW["prompt"]}])
    return ["generate", "--model.path", str(folder), "--prompts", "p.jsonl", "--generation.max_new_tokens", "4", *more]


def test_tools_reach_the_template_and_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    from align.cli import answering

    original = answering.Sampler.sample

    def sample(self, requests, **options):
        asked.extend(self.engine.tokenizer.decode(request.ids) for request in requests)
        return original(self, requests, **options)

    monkeypatch.setattr(answering.Sampler, "sample", sample)
    folder = save_tiny(tmp_path / "m", template=WRITES)
    assert main(words(folder, "--out", "o.jsonl")) == 0
    assert [text.replace(" ", "") for text in asked] == ["weather[user]Hi[assistant]", "[user]Hi[assistant]"]
    rows = [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]
    assert [row.get("tools") for row in rows] == [TOOLS, None]
    assert [prompt.tools != "" for prompt in read_prompts("o.jsonl")] == [True, False]  # and are read back


def test_a_template_without_tools_is_told(tmp_path: Path, told: Callable[..., str]) -> None:
    folder = save_tiny(tmp_path / "m", template=TEMPLATE)
    assert "prompt 1 of 2: chat template leaves out the tools" in told(*words(folder))
    assert "prompt 1 of 2: a plain transcript has no tools" in told(*words(folder, "--template", "plain"))


def test_a_chat_server_keeps_calls_apart(model_folder: Path) -> None:
    from transformers import AutoTokenizer

    server = Server("http://127.0.0.1:1/v1", "m", api="chat", api_key_env=None)
    engine = HTTPEngine(server, AutoTokenizer.from_pretrained(model_folder), [0])
    asked = read_prompts(str(lines(Path("p.jsonl"), [ROW])))[0]
    request = Request("x", [1], asked.messages, asked.tools)
    with pytest.raises(ConfigError, match="a prompt has tools: use api `completions`"):
        engine.generate([Job(0, request, range(1))], Generation(4))
