"""What became of the columns: renamed or kept as asked, and those that nothing reads named, or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from align.data.column_layouts import PROMPTS
from align.data.column_names import inside, paths
from align.data.convention import Convention
from align.data.conventions import CONVENTIONS
from align.data.drop_report import Report, RowError
from align.data.readers import Located
from align.data.row_parts import EVERYWHERE, SETTINGS, TOOLS
from align.data.turn_parts import SPEAKER
from align.data.turns import READ, TRAINED
from align.errors import ConfigError, DataError, did_you_mean

MEANING = frozenset(
    {
        *("context", "label", "labels", "reasoning_content", "tool_calls"),
        "initial_reason_steps",
        *("article", "passage", "document", "documents", "paragraph", "chat_history"),
        *("images", "image", "videos", "video", "audios", "audio"),
    }
)
"""Columns that say something about how a row is meant, besides those that every convention reads."""
JUDGING = frozenset(
    {
        *("winner", "preference", "preferred", "verdict", "comparison", "ranking", "best", "overall_pref", "rank"),
        *(
            f"{which}_{what}"
            for which in ("best", "better", "chosen", "preferred", "selected", "winner", "winning")
            for what in ("idx", "index", "id", "response", "completion", "output", "candidate")
        ),
    }
)
"""Columns that say which answer is better, which `UNRANKED` layouts would lose."""
UNRANKED = ("prompts", "lists")
ENTRY = frozenset(
    {
        *("text", "response", "content", "completion", "answer", "value", "model", "policy", "rank"),
        *("score", "reward", "rating", "pm_score", "annotations", "overall_score", "input", "output"),
        *("human", "user", "assistant", "question", "system", *TRAINED),
    }
)
"""Keys of one of several responses that are read."""
ASKED = EVERYWHERE.union(PROMPTS)
"""Columns that belong to the prompt or the row, also where they are kept."""
MAPPING: dict[str, str] = {
    "initial_reason_steps": "--data.columns '{input: initial_reason_steps}' adds it to the prompt, ",
    "context": "--data.columns '{input: context}' adds it to the prompt, ",
}
"""What to write for a column that says something."""
MAPPING |= {
    name: f"--data.columns '{{input: {name}}}' adds it to the prompt, "
    for name in ("article", "passage", "document", "paragraph")
}
MAPPING["chat_history"] = "--data.columns '{history: chat_history}' puts it before the prompt, "
MAPPING["ranking"] = "--data.columns '{ranks: ranking}' where it holds the rank of each response, the lowest the best, "


def check_columns(rows: Sequence[Located], columns: Mapping[str, str]) -> None:
    """Raise ConfigError for a mapping of columns that does not fit the first rows."""
    there = list(dict.fromkeys(name for located in rows for name in located.row))
    for name, theirs in columns.items():
        if twice := [other for other, column in columns.items() if column == theirs and other != name]:
            raise ConfigError(f"data.columns: {theirs!r} is named for {name} and {twice[0]}: one column is one thing")
        if theirs in there or any(paths([theirs], located.row) for located in rows):
            continue
        if name in there and theirs in columns_read():
            right = ", ".join(f"{theirs}: {name}" for name, theirs in columns.items())
            raise ConfigError(f"data.columns is the wrong way round: write '{{{right}}}', our name first")
        raise ConfigError(
            f"data.columns: no column {theirs!r}{did_you_mean(theirs, there)} (there: {', '.join(map(str, there))})"
        )


def check_kept(rows: Sequence[Located], kept: Sequence[str]) -> None:
    """Raise ConfigError for a column to be kept that the first rows of a file do not have."""
    there = list(dict.fromkeys(str(name) for located in rows for name in located.row))
    for name in kept:
        if rows and name not in there:
            raise ConfigError(
                f"{rows[0].where}: data.keep_columns: no column {name!r}{did_you_mean(name, there)} "
                f"(there: {', '.join(there)})"
            )


def kept_columns(located: Located, kept: Sequence[str]) -> str:
    """Return the columns of a row to be kept as JSON, null for those it leaves out; nothing where none are asked for.

    Raises RowError for a value that JSON has no word for, such as a date or NaN.
    """
    values = {name: located.row.get(name) for name in kept}
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            reason = f"data.keep_columns: {name!r} is nothing that JSON can hold"
            raise RowError(located.where, reason, f"{reason} ({error})") from error
    return json.dumps(values, allow_nan=False) if values else ""


@cache
def columns_read() -> frozenset[str]:
    """Return the names of all columns that some convention reads."""
    needed = (name for convention in CONVENTIONS for group in convention.needs for name in group)
    return frozenset({*EVERYWHERE, *needed, *(name for convention in CONVENTIONS for name in convention.uses)})


def renamed(located: Located, columns: Mapping[str, str], ignored: Sequence[str] = ()) -> Located:
    """Return a row under the names its columns should have, without those to be read past."""
    if not columns and not ignored:
        return located
    back = {theirs: name for name, theirs in columns.items()}
    row = {
        back.get(name, name): value
        for name, value in located.row.items()
        if name not in ignored and (name in back or name not in columns)
    }
    row |= {back[path]: inside(located.row, path) for path in paths(list(back), located.row)}
    return Located(located.where, row)


def note_columns(report: Report, located: Located, convention: Convention, place: str) -> None:
    """Remember the columns of a row, and the keys of its turns, that nothing reads.

    Raises DataError for one that would change what the row means.
    """
    used = convention.columns(located.row)
    for name, value in located.row.items():
        if name in used:
            _note_keys(report, str(name), value, place, convention.inside)
        elif not _empty(value):
            if name in MEANING or (name in JUDGING and convention.name in UNRANKED):
                raise DataError(
                    f"{located.where}: column {name!r} says something that the layout {convention.name!r} does not "
                    f"read: {MAPPING.get(name, '')}--data.ignore_columns '[{name}]' reads past it"
                )
            report.unused.setdefault(str(name), place)


def _note_keys(report: Report, name: str, value: Any, place: str, read: frozenset[str]) -> None:
    if name in (SETTINGS, *TOOLS):
        return
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, dict):
            continue
        turn = not entry.keys().isdisjoint(SPEAKER)
        if turn or isinstance(value, list):
            known = READ if turn else ENTRY
            for key in entry:
                if key not in known and key not in read and not _empty(entry[key]):
                    report.unused.setdefault(f"{name}[].{key}", place)


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, dict)) and not value)
