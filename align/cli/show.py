"""`align show`: what the rounds of a run were like."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from align.cli.functions import FunctionVerb
from align.errors import ConfigError, shorten
from align.rounds.round_store import RoundRow, RoundStore

COLUMNS = ("reward", "reward_best", "gain", "length", "finished", "unique", "acceptance", "replay")


def show(run: str, *, samples: int = 2) -> None:
    """List the rounds of a run: samples, records, rewards, what was dropped, and samples to look at.

    Args:
        run: Run folder.
        samples: Samples to show of every round.
    """
    path = Path(run) / "rounds" / "rounds.sqlite"
    if not path.exists():
        raise ConfigError(
            f"{run}: no rounds here (expected {path}): use align.callbacks.resampling.IterativeResampling"
        )
    store = RoundStore(path)
    found = store.rounds()
    drawn = {row.number: len(store.samples(row.number)) for row in found if row.sha256 is None}
    store.close()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(_table(found))
    for row in found:
        if row.sha256 is None:
            console.print(f"round {row.number} is not done: {drawn[row.number]} samples are there")
            continue
        for reason, count in row.manifest["dropped"].items():
            console.print(f"round {row.number}: {count} x {escape(reason)}")
        told = row.manifest.get("scorer") or {}
        for one in (told, *(part for part in told.values() if isinstance(part, dict))):
            if "reward_model" in one:
                console.print(f"round {row.number}: scored by {escape(one['reward_model'])}, {one['hash'][:12]}")
        for shown in row.manifest["shown"][:samples]:
            text = f"{shorten(shown['prompt'], 70)} → {shorten(shown['best'], 160)}"
            console.print(f"round {row.number}, reward {shown['reward']:.3g}: {escape(text)}")


def _table(found: list[RoundRow]) -> Table:
    table = Table()
    own = dict.fromkeys(name for row in found for name in row.manifest.get("metrics", {}))
    names = [*COLUMNS, *(name for name in own if name not in COLUMNS)]
    for name in ("round", "policy", "prompts", "samples", "records", *names):
        table.add_column(name.replace("_", " "), justify="right")
    for row in found:
        table.add_row(*_cells(row, names))
    return table


def _cells(row: RoundRow, names: list[str]) -> list[str]:
    counts: dict[str, Any] = row.manifest.get("counts", {})
    metrics: dict[str, float] = row.manifest.get("metrics", {})
    numbers = [str(counts.get(name, "")) for name in ("prompts", "samples", "records")]
    shown = [f"{metrics[name]:.3g}" if name in metrics else "" for name in names]
    return [str(row.number), row.policy[:8], *numbers, *shown]


VERB = FunctionVerb(show, positional=True)
