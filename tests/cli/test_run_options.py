"""Every option of the verbs about data and runs: `data read`, `show`, `init world`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from align.cli import init_world as base
from align.cli.data_read import read
from align.cli.show import show
from align.data.synthetic import Corpus
from align.rounds.round_store import RoundStore
from tests.cli.observing import Observed, Verb, check, options_of
from tests.cli.things import lines

READ = Verb(
    read,
    "data read",
    {"file": ("THINGS/splits",)},
    {
        "file": (),
        "columns": ("--columns", "{prompt: question}"),
        "ignore_columns": ("--ignore_columns", "[note]"),
        "keep_columns": ("--keep_columns", "[note]"),
        "split": ("--split", "test"),
    },
    only={"file": ["columns", "ignore_columns", "keep_columns", "split"]},
)
ROUNDS = Verb(
    show,
    "show",
    {"run": ("THINGS/rounds",)},
    {"run": (), "samples": ("--samples", "1")},
    only={"run": ["samples"]},
)
BASE = Verb(
    base.init_world,
    "init world",
    {"new": ("--out", "w")},
    {
        "out": ("--out", "x"),
        "world.version": ("--world.version", "2"),
        "world.entities": ("--world.entities", "9"),
        "world.facts": ("--world.facts", "5"),
        "world.harmful_share": ("--world.harmful_share", "0.9"),
        "world.held_out_entities": ("--world.held_out_entities", "3"),
        "world.fact_accuracy": ("--world.fact_accuracy", "0.1"),
        "world.seed": ("--world.seed", "1"),
        "checked_rows": ("--checked_rows", "2000"),
        "rows": ("--rows", "3000"),
        "hidden_size": ("--hidden_size", "64"),
        "num_hidden_layers": ("--num_hidden_layers", "2"),
        "seed": ("--seed", "1"),
    },
)
VERBS = {verb.name: verb for verb in (READ, ROUNDS, BASE)}


@dataclass(frozen=True)
class Quality:
    """What the base can do, not measured."""

    facts: float = 1.0

    def faults(self) -> list[str]:
        return []


@pytest.fixture(scope="module", autouse=True)
def files(things: Path) -> Iterator[None]:
    """Splits with two columns to rename and to pass, a run with a round, and a base whose training is only noted."""
    (things / "splits").mkdir()
    for name in ("train", "test"):
        rows = [{"prompt": f"{name} {n}", "question": f"Q{n}", "chosen": "a", "rejected": "b", "note": 1} for n in "xy"]
        lines(things / "splits" / f"{name}.jsonl", rows)
    store = RoundStore(things / "rounds" / "rounds" / "rounds.sqlite")
    store.begin(0, "weights", "settings")
    shown = [{"prompt": f"P{n}", "best": f"B{n}", "reward": n} for n in range(3)]
    store.seal(0, 3, "sha", {"metrics": {"reward": 1.0}, "dropped": {}, "shown": shown})
    store.close()
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(base, "_learn", _noted)
    monkeypatch.setattr(base, "measure_base", lambda model, tokenizer, world: Quality())
    yield
    monkeypatch.undo()


def _noted(start: Path, out: Path, corpus: Corpus, stage: base.Stage, *, seed: int) -> Any:
    out.mkdir(parents=True)
    (out / "trained.txt").write_text(f"{vars(corpus)} {stage} {seed}")
    for name in ("config.json", "model.safetensors"):
        if (start / name).exists():
            (out / name).write_bytes((start / name).read_bytes())
    return SimpleNamespace(model=None, tokenizer=None)


@pytest.mark.parametrize("name", VERBS)
def test_every_option_is_tried(name: str) -> None:
    assert options_of(VERBS[name].function) == set(VERBS[name].options)


@pytest.mark.parametrize(("name", "mode", "option"), [(v.name, *case) for v in VERBS.values() for case in v.cases()])
def test_option(name: str, mode: str, option: str, observed: Observed) -> None:
    check(VERBS[name], mode, option, observed)
