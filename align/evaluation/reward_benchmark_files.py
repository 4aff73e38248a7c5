"""Rows of reward model benchmarks as items: pairs, one right response among n, n right ones against n wrong ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from align.errors import DataError
from align.evaluation.reward_benchmark import Kind, RewardBenchmarkItem
from align.records import Message

Row = tuple[str, Mapping[str, Any]]
"""Where a row stands, and its columns."""


def kind_of(where: str, row: Mapping[str, Any]) -> Kind:
    """Return what a row holds. Raises DataError for a row of no benchmark we know."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        return "pairs"
    lists = all(isinstance(x, list) and x and all(isinstance(t, str) for t in x) for x in (chosen, rejected))
    if not lists:
        raise DataError(
            f"{where}: expected 'chosen' and 'rejected' as texts (pairs), or lists of texts (best of n, n by n)"
        )
    assert isinstance(chosen, list)
    assert isinstance(rejected, list)
    counted = "num_correct" in row or "total_completions" in row
    return "n_by_n" if len(chosen) == len(rejected) > 1 and not counted else "best_of_n"


def read_items(rows: Iterable[Row], kind: Kind | None = None) -> tuple[Kind, list[RewardBenchmarkItem]]:
    """Return the items of a file and their kind, told from the first row where it is not given.

    The part of the benchmark is the column `subset`, or `domain` (RM-Bench). Raises DataError for rows that are not
    alike, and for an item of best of n with several right responses outside the subset Ties.
    """
    items: list[RewardBenchmarkItem] = []
    for where, row in rows:
        found = kind_of(where, row)
        kind = kind or found
        if (found == "pairs") != (kind == "pairs"):
            raise DataError(f"{where}: a row of kind {found}, expected {kind} as in the rows before")
        items.append(_item(where, row, kind))
    if kind is None:
        raise DataError("no row to read")
    return kind, items


def _item(where: str, row: Mapping[str, Any], kind: Kind) -> RewardBenchmarkItem:
    subset = row.get("subset") or row.get("domain") or "pairs"
    right, wrong = ((x,) if isinstance(x, str) else tuple(x) for x in (row["chosen"], row["rejected"]))
    if kind == "n_by_n" and (len(right) != len(wrong) or len(right) < 2):
        raise DataError(f"{where}: {len(right)} chosen and {len(wrong)} rejected responses, expected as many of both")
    if kind == "best_of_n" and subset != "Ties" and len(right) != 1:
        raise DataError(f"{where}: {len(right)} right responses, expected 1 outside the subset Ties")
    return RewardBenchmarkItem(str(row.get("id", where)), str(subset), _prompt(where, row.get("prompt")), right, wrong)


def _prompt(where: str, prompt: object) -> tuple[Message, ...]:
    if isinstance(prompt, str) and prompt.strip():
        return (Message("user", prompt),)
    turns = prompt if isinstance(prompt, list) else []
    fits = all(isinstance(t, dict) and {"role", "content"} <= set(t) and isinstance(t["content"], str) for t in turns)
    if not turns or not fits or turns[-1]["role"] != "user":
        raise DataError(f"{where}: 'prompt' must be a text, or a list of role and content that ends with the user")
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)
