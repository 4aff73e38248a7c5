"""`align chat`: turns from a pipe, two models side by side, each with its own dialogue."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from align.cli.main import main
from tests.cli.conftest import told
from tests.tiny import save_tiny

__all__ = ["told"]
WORDS = ["--generation", "{max_new_tokens: 8, temperature: 0}"]


def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lines: str, *words: str) -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    capsys.readouterr()
    assert main(["chat", *words, *WORDS]) == 0
    return capsys.readouterr().out


def test_two_models_side_by_side(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = str(shared / "stories260K-hf"), str(save_tiny(tmp_path / "b"))
    alone = talk(monkeypatch, capsys, "Hello\n", first)
    both = talk(monkeypatch, capsys, "Hello\n\n/quit\nnever\n", first, second)
    assert alone.count("╭") == 1
    assert both.count("╭") == 2
    again = talk(monkeypatch, capsys, "Hello\nand then?\n/new\nHello\n", first)
    boxes = again.split("╭")[1:]
    assert len(boxes) == 3
    assert boxes[0] == boxes[2].rstrip("\n") + boxes[0][len(boxes[0].rstrip("\n")) :]  # greedy, from the beginning
    assert boxes[0] == alone.split("╭")[1]
    named = talk(monkeypatch, capsys, "Hello\n", "--models.me", first, "--models.me.plain", "true")
    assert "me" in named.split("╭")[1].splitlines()[0]


def test_bad_input(told, tmp_path: Path) -> None:
    assert "takes one model or two" in told("chat", "a", "b", "c")
    assert "num_samples must be 1" in told("chat", "a", "--generation.num_samples", "2")
    assert "no such folder" in told("chat", str(tmp_path / "none"))
