"""Rounds survive: bit-identical weights and no acknowledged sample missing after kills at any moment."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.resume.runs import KILLED, Run, same
from tests.rounds.runs import command, world_model

__all__ = ["world_model"]
NINE = int(signal.SIGKILL)


def stored(run: Run) -> dict[tuple[int, str, int], tuple[str, str | None]]:
    """Every sample in the store: key to text and scores."""
    with sqlite3.connect(run.root / "rounds" / "rounds.sqlite") as db:
        rows = db.execute("SELECT round, prompt, number, text, scores FROM sample").fetchall()
    return {(r, p, k): (t, s) for r, p, k, t, s in rows}


def killing(journal: Path, moment: str, count: int) -> Callable[[], None]:
    """Prepare a process that dies at the count-th passing of a moment, and writes down what was acknowledged."""

    def prepare() -> None:
        from align.rounds import sealing
        from align.rounds.round_store import RoundStore

        passed: dict[str, int] = {}

        def at(name: str) -> None:
            passed[name] = passed.get(name, 0) + 1
            if (name, passed[name]) == (moment, count):
                os.kill(os.getpid(), NINE)

        def around(owner: Any, name: str) -> None:
            original = getattr(owner, name)

            def wrapped(*args: Any, **options: Any) -> Any:
                at(f"before {name}")
                result = original(*args, **options)
                if name == "add":
                    with journal.open("a") as file:
                        file.writelines(f"{args[1]}\t{s.prompt}\t{s.number}\t{s.text}\n" for s in args[2])
                at(f"after {name}")
                return result

            setattr(owner, name, wrapped)

        for name in ("begin", "add", "add_scores", "seal"):
            around(RoundStore, name)
        around(sealing, "write_round")

    return prepare


MOMENTS = [
    f"{when} {name}" for name in ("begin", "add", "add_scores", "write_round", "seal") for when in ("before", "after")
]


def acknowledged(journal: Path) -> dict[tuple[int, str, int], str]:
    lines = [line.split("\t") for line in journal.read_text().splitlines()] if journal.exists() else []
    return {(int(r), p, int(k)): text for r, p, k, text in lines}


def check(whole: Run, cut: Run, journal: Path) -> None:
    same(whole, cut)
    kept = stored(cut)
    missing = [key for key, text in acknowledged(journal).items() if kept.get(key, ("",))[0] != text]
    assert not missing, f"{len(missing)} acknowledged samples are missing"
    assert kept == stored(whole)
    files = sorted((whole.root / "rounds").glob("*.jsonl"))
    assert len(files) == 3
    assert all(f.read_bytes() == (cut.root / "rounds" / f.name).read_bytes() for f in files)


def random_kills(tmp_path: Path, arguments: list[str], wanted: int) -> None:
    whole, draw, killed, number = Run(tmp_path / "whole", arguments), random.Random(0), 0, 0
    assert whole() == 0, whole.log
    training = ["batch_start", "batch_end", "before_step", "save", "epoch_end"]
    while killed < wanted:
        cut, code = Run(tmp_path / f"cut{number}", arguments), KILLED
        journal = tmp_path / f"cut{number}.acknowledged"
        while code == KILLED:
            if draw.random() < 0.6:
                moment = draw.choice(MOMENTS)
                code = cut(prepare=killing(journal, moment, draw.randint(1, 6 if moment.endswith("add") else 2)))
            else:
                where = draw.choice(training)
                code = cut((where, draw.randint(1, 2 if where == "epoch_end" else 4), NINE), killing(journal, "", 0))
            killed += code == KILLED
        assert code == 0, cut.log
        check(whole, cut, journal)
        number += 1
    print(f"\n{killed} kills over {number} runs: all bit-identical, no acknowledged sample missing")


def test_random_kills(tmp_path: Path, world_model: Path) -> None:
    random_kills(tmp_path, command(world_model), 3)


@pytest.mark.slow
@pytest.mark.parametrize("restart", ["false", "true"])
def test_kills_before_the_epoch_is_saved(restart: str, tmp_path: Path, world_model: Path) -> None:
    """The last checkpoint is then one of an epoch's last batch, and the next round has another number of batches."""
    arguments = command(world_model, "--trainer.callbacks.restart", restart)
    whole, cut = Run(tmp_path / "whole", arguments), Run(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    journal = tmp_path / "journal"
    for _ in range(2):
        assert cut(("epoch_end", 1, NINE), killing(journal, "", 0)) == KILLED, cut.log
    assert cut() == 0, cut.log
    check(whole, cut, journal)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_many_random_kills(method: str, tmp_path: Path, world_model: Path) -> None:
    selection = "align.rounds.pair_selections.BestWorst" if method == "dpo" else "align.rounds.selections.BestOfN"
    random_kills(tmp_path, command(world_model, method=method, selection=selection), 100)
