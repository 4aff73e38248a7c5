"""Two answers in columns of their own and a column that says which is better, as labelling tools write them."""

from __future__ import annotations

import math
import re
from typing import Any

from align.data.arenas import FIRST, SECOND, TIE
from align.data.column_layouts import GRADES, PROMPTS, SCORES, is_number, prompt_key
from align.data.convention import Convention
from align.data.drop_report import DroppedRow, RowError
from align.data.list_rows import rank_by_score
from align.data.pair_rows import REJECTED, found
from align.data.readers import Located, Row
from align.data.row_parts import RowParts, prompt_of, said
from align.data.row_validation import field, number
from align.errors import DataError, shorten
from align.records import Message

Ranking = tuple[tuple[int, ...], ...]
STEMS = ("response", "answer", "output", "completion", "candidate", "summary", "generation", "reply")
SIDES = (("a", "b"), ("A", "B"), ("0", "1"), ("1", "2"))
"""What tells the two columns apart, and what a verdict calls them."""
VERDICTS = (
    *("winner", "preference", "preferred", "choice", "verdict", "better", "label", "chosen"),
    *("preferred_response", "better_response", "human_preference", "chosen_response", "comparison", "better_answer"),
    *("overall_pref", "overall_preference", "which_is_better", "which_is_better?"),
)
ASKED = (*PROMPTS, "text")
"""What two answers may answer; the last is MultiPref's."""
TIES = frozenset({"tie", "tied", "both", "equal", "same", "draw", "neither", "both_good", "both_bad", "bothbad"})
_BEFORE = re.compile(rf"^(?:{'|'.join((*STEMS, 'model', 'assistant', 'option'))})s?[_\- ]*")
_BETTER = re.compile(r"^(\w+?)[\s_-]+(?:is|was)[\s_-]+(?:[a-z]+[\s_-]+)?better$")
"""MultiPref (Miranda et al. 2024, arXiv:2410.19133): `A-is-clearly-better`."""
PLACES = {"left": FIRST, "right": SECOND, "first": FIRST, "second": SECOND}
"""Which of two that are shown beside each other, as Label Studio says it."""
_COMPARED = re.compile(r"^(\w+?)\s*(>+|<+|=+)\s*(\w+)$")


def judged(located: Located, sides: tuple[str, str]) -> RowParts:
    """Read a row whose columns end in these two letters or numbers.

    Raises RowError for a verdict that names neither, DataError for a number that is none of them: numbers that count
    from elsewhere would name the wrong answer in every other row.
    """
    columns = _columns(located.row, sides)
    texts = [field(located, column) for column in columns]
    key = found(located.row, VERDICTS)
    if key is None:
        raise RowError(located.where, "no verdict on the two answers")
    ranking = _verdict(located.row[key], texts, sides)
    if ranking is None:
        _refuse_count(located, key, columns)
        detail = f"{key!r} is {shorten(located.row[key], 30)!r}, expected {sides[0]!r}, {sides[1]!r} or 'tie'"
        raise RowError(located.where, f"{key!r} names neither of {columns[0]} and {columns[1]}", detail)
    origins = [str(located.row.get(f"model_{side}") or "") for side in sides]
    return RowParts(_asked(located), [said(text) for text in texts], {}, ranking, origins)


def _asked(located: Located) -> list[Message]:
    key = prompt_key(located) if found(located.row, PROMPTS) or "text" not in located.row else "text"
    return prompt_of(located, key)


def _verdict(value: Any, texts: list[str], sides: tuple[str, str]) -> Ranking | None:
    """Return the ranking a verdict names: by a side, `A>B`, a word for a tie, or the better text itself."""
    if value in texts and texts[0] != texts[1]:
        return (FIRST, SECOND)[texts.index(value)]
    if isinstance(value, bool):
        return None
    word = f"{value:g}" if isinstance(value, float) else str(value)
    word = word.strip().strip("[]()").lower()
    if word.partition(" (")[0] in TIES:
        return TIE
    names = {side.lower(): ranking for side, ranking in zip(sides, (FIRST, SECOND), strict=True)}
    if compared := _COMPARED.match(word):
        left, sign, right = compared.groups()
        if {left, right} != names.keys():
            return None
        return TIE if "=" in sign else names[left if ">" in sign else right]
    word = _BEFORE.sub("", word)
    better = _BETTER.match(word)
    return {**PLACES, **names}.get(better.group(1) if better else word)


def _refuse_count(located: Located, key: str, columns: tuple[str, str]) -> None:
    """Raise DataError for a number that neither of two numbered columns has."""
    value = str(located.row[key]).strip().removesuffix(".0")
    if not (value.isdigit() and columns[0][-1].isdigit()):
        return
    counted = ("1", "2") if columns[0].endswith("0") else ("0", "1")
    names = ", ".join(f"{column[:-1]}{number}: {column}" for column, number in zip(columns, counted, strict=True))
    raise DataError(
        f"{located.where}: {key!r} is {value} beside {columns[0]} and {columns[1]}, so it counts from elsewhere "
        f"or means a tie: name them as it counts, --data.columns '{{{names}}}', and write ties as 'tie'"
    )


def _forms(stem: str, side: str) -> tuple[str, ...]:
    """Return the names of an answer's column; the third is that of JudgeLM (Zhu et al. 2023, arXiv:2310.17631)."""
    return f"{stem}_{side}", f"{stem}{side}", f"{stem}{side}_body", f"model_{side}_{stem}", f"{stem}_model_{side}"


def _columns(row: Row, sides: tuple[str, str]) -> tuple[str, str]:
    """Return the two columns of one stem, empty where there are none, or a third."""
    every = (*sides, chr(ord(sides[1]) + 1))
    for stem in STEMS:
        for first, second, third in zip(*(_forms(stem, side) for side in every), strict=True):
            if isinstance(row.get(first), str) and isinstance(row.get(second), str) and row.get(third) is None:
                return first, second
    return "", ""


def _fits(row: Row, sides: tuple[str, str]) -> bool:
    return bool(_columns(row, sides)[0]) and found(row, REJECTED) is None and found(row, VERDICTS) is not None


def _either(side: str) -> list[str]:
    return [name for stem in STEMS for name in _forms(stem, side)]


def _convention(sides: tuple[str, str]) -> Convention:
    return Convention(
        "two answers and a verdict",
        [*(_either(side) for side in sides), VERDICTS, ASKED],
        lambda located: judged(located, sides),
        [f"model_{side}" for side in sides],
        lambda row: _fits(row, sides),
    )


def scored(located: Located, sides: tuple[str, str]) -> RowParts:
    """Read a row whose two answers have a score each, of which more is better. Raises DroppedRow without both."""
    where, row = located
    texts = [field(located, column) for column in _columns(row, sides)]
    graded = _grades(row, sides)
    scores = [number(where, f"{key!r}", value) for key, value in graded]
    if any(map(math.isnan, scores)):
        raise DroppedRow(f"{graded[0][0]!r} or {graded[1][0]!r} is empty: no preference")
    origins = [str(row.get(f"model_{side}") or "") for side in sides]
    return RowParts(_asked(located), [said(text) for text in texts], {"score": scores}, rank_by_score(scores), origins)


def _grades(row: Row, sides: tuple[str, str]) -> list[tuple[str, object]]:
    """Return the two scores with their columns, which may be one that holds both; none where there are none."""
    for name in GRADES:
        keys = [f"{name}_{side}" for side in sides]
        if all(key in row for key in keys):
            return [(key, row[key]) for key in keys]
    for name in SCORES:
        value = row.get(name)
        if isinstance(value, list) and len(value) == 2 and all(map(is_number, value)):
            return [(name, one) for one in value]
    return []


def _scored(sides: tuple[str, str]) -> Convention:
    return Convention(
        "two answers and their scores",
        [*(_either(side) for side in sides), [*SCORES, *(f"{name}_{sides[0]}" for name in GRADES)], ASKED],
        lambda located: scored(located, sides),
        [f"{name}_{side}" for name in (*GRADES, "model") for side in sides],
        lambda row: bool(_columns(row, sides)[0] and _grades(row, sides)) and found(row, REJECTED) is None,
    )


JUDGED = (*map(_convention, SIDES), *map(_scored, SIDES))
"""For each way in which the two columns may be told apart."""
