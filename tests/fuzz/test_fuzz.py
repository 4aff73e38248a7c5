"""Whatever is in a file or a reply, the outcome is a result or one line: for a minute in CI, for an hour when slow."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given, settings

from align.cli.yaml_check import check_config
from align.data.drop_report import Report
from align.data.preference_file import PreferenceFile
from align.encoding.templates import RowRefused, make_template
from align.errors import AlignError
from align.judges.chat_completion import read_body, read_usage
from align.judges.verdicts import _PARSERS, parse
from align.records import Message
from align.sampling.server_faults import read_error
from align.sampling.wire import read_text
from tests.fuzz import inputs
from tests.tiny import tiny_tokenizer

CI_SECONDS = 8.0
SLOW_SECONDS = float(os.environ.get("ALIGN_FUZZ_SECONDS", "3600"))
"""For all inputs together under `make test-slow`."""
FOLDER = Path("fuzz")


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Let pass what is told in one line."""
    try:
        yield
    except AlignError as error:
        line = str(error)
        assert line.strip()
        assert len(line) < 2000
        line.encode("utf-8", "backslashreplace")


def file(name: str, data: bytes) -> Path:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / name
    path.write_bytes(data)
    return path


def rows(name: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        with one_line():
            report = Report()
            examples = PreferenceFile(str(file(name, data))).read("train", report)
            str(report).encode("utf-8", "backslashreplace")
            assert all(example.id for example in examples)

    return read


def yaml(data: bytes) -> None:
    with one_line():
        check_config(str(file("own.yaml", data)))


def template(source: str) -> None:
    path = file("own.jinja", source.encode("utf-8", "replace"))
    with one_line(), contextlib.suppress(RowRefused):
        made = make_template(tiny_tokenizer(), str(path))
        made.prompt([Message("user", "hello")])


def reply(data: bytes) -> None:
    """Everything that reads a body: what it returns can be stored and shown."""
    body = read_text(data, "")
    body.encode("utf-8")
    read_usage(body)
    str(read_error(body)).encode("utf-8")
    found = read_body(body)
    if isinstance(found, str):
        return
    found.model.encode("utf-8")
    for form in _PARSERS:
        verdict = parse(found, form)
        assert verdict.first != verdict.first or 0 <= verdict.first <= 10  # NaN is invalid
        assert verdict.first == verdict.first or verdict.reason
        verdict.reason.encode("utf-8")


TARGETS: dict[str, tuple[Any, Callable[[Any], None]]] = {
    "jsonl": (inputs.JSONL, rows("own.jsonl")),
    "csv": (inputs.CSV, rows("own.csv")),
    "yaml": (inputs.YAML, yaml),
    "template": (inputs.TEMPLATE, template),
    "reply": (inputs.REPLY, reply),
}


def fuzz(name: str, seconds: float) -> int:
    """Try made-up inputs for so long; return how many."""
    strategy, target = TARGETS[name]
    until, tried = time.monotonic() + seconds, 0

    def once(data: Any) -> None:
        nonlocal tried
        tried += 1
        if time.monotonic() < until:
            target(data)

    health = list(hypothesis.HealthCheck)
    for seed in range(10**6):
        own = settings(max_examples=200, deadline=None, database=None, suppress_health_check=health)
        hypothesis.seed(seed)(own(given(strategy)(once)))()
        if time.monotonic() >= until:
            break
    print(f"\n{name}: {tried} inputs, each a result or one line")
    return tried


@pytest.mark.parametrize("name", TARGETS)
def test_a_result_or_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fuzz(name, CI_SECONDS) > 50


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", TARGETS)
def test_for_an_hour(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fuzz(name, SLOW_SECONDS / len(TARGETS)) > 50
