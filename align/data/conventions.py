"""Which convention a file follows: every one of them is an object here, and the first that fits a row reads it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from align.data import column_layouts, pair_rows, steerlm
from align.data.column_layouts import DIALOGUES, ENTRY_GRADES, LABELS, LISTS, PROMPTS, SAYING, SINGLE
from align.data.convention import Convention, all_of
from align.data.judged_pairs import JUDGED
from align.data.markup import whole_dialogue
from align.data.named_columns import NAMED
from align.data.pair_rows import CHOSEN, REJECTED, found, is_transcript
from align.data.proposing import compares
from align.data.public_conventions import PUBLIC
from align.data.readers import Row
from align.data.reasoning_rows import REASONING
from align.data.row_parts import EVERYWHERE
from align.data.turns import speaker
from align.data.ultrafeedback_rows import raw_row
from align.records import ASKING

NUMBERS = (*column_layouts.GRADES, *column_layouts.ATTRIBUTES)
"""Columns of scores, read where they hold numbers."""
ABOUT = frozenset(
    {
        *("id", "source", "dataset", "subset", "split", "url", "model", "generator"),
        *("category", "domain", "task", "lang", "language", "type", "topic"),
    }
)
"""Columns that say where a row comes from; prompts have no other texts beside them."""


def _has_prompt(row: Row) -> bool:
    """Return whether there is a prompt to a pair: in a column, or in both answers as whole dialogues."""
    if any(row.get(name) is not None for name in PROMPTS):
        return True
    sides = [next((row[n] for n in names if n in row), None) for names in (CHOSEN, REJECTED)]
    return all(isinstance(s, list) or (isinstance(s, str) and (is_transcript(s) or whole_dialogue(s))) for s in sides)


def _graded(entries: object) -> bool:
    return isinstance(entries, list) and any(
        isinstance(e, dict) and not e.keys().isdisjoint(ENTRY_GRADES) for e in entries
    )


def _listed(row: Row, groups: Sequence[Sequence[str]]) -> bool:
    """Return whether there is a list in a column of each group."""
    return all(any(isinstance(row.get(name), list) for name in names) for names in groups)


def _answers(row: Row) -> bool:
    """Return whether what is called an answer may be one."""
    return isinstance(row[next(name for name in SINGLE if name in row)], str | list | dict | None)


def _asks(row: Row) -> bool:
    """Return whether the prompt is no dialogue that has its answer already."""
    value = row.get(found(row, PROMPTS) or "")
    last = value[-1] if isinstance(value, list) and value else None
    return speaker(last) != "assistant"


def _ends_open(row: Row) -> bool:
    """Return whether the turns of a row end with one to be answered."""
    turns = row[next(name for name in DIALOGUES if name in row)]
    last = turns[-1] if isinstance(turns, list) and turns else None
    return speaker(last) in ASKING


def _marked(row: Row) -> bool:
    return isinstance(row["text"], str) and bool(whole_dialogue(row["text"]))


def _only_prompt(row: Row) -> bool:
    """Return whether a row is a prompt and nothing that could be an answer to it."""
    if row.get("prompt") is not None:
        return not compares(row)
    key = next(name for name in PROMPTS if name in row)
    known = {key, *ABOUT, *EVERYWHERE}
    return not any(isinstance(value, str) and value for name, value in row.items() if name not in known)


CONVENTIONS = (
    *PUBLIC,
    *JUDGED,
    *REASONING,
    *NAMED,
    Convention(
        "SteerLM texts",
        all_of("text", "label"),
        steerlm.rated_text,
        fits=lambda row: isinstance(row["label"], list) and not any(isinstance(value, str) for value in row["label"]),
    ),
    Convention(
        "SteerLM dialogues", all_of("conversations"), steerlm.rated_dialogue, ("mask", "type"), steerlm.labelled
    ),
    Convention(
        "UltraFeedback, raw",
        all_of("instruction", "completions"),
        raw_row,
        fits=lambda row: (
            isinstance(row["completions"], list)
            and any(isinstance(c, dict) and "annotations" in c for c in row["completions"])
        ),
    ),
    Convention(
        "pairs in output",
        [*all_of("output"), PROMPTS],
        column_layouts.two_outputs,
        fits=lambda row: isinstance(row["output"], list) and len(row["output"]) == 2,
    ),
    Convention(
        "pairs", [CHOSEN, REJECTED], pair_rows.pair, (*pair_rows.PAIR_NUMBERS, *pair_rows.PAIR_MODELS), _has_prompt
    ),
    Convention("pairs", [[*CHOSEN, *REJECTED], PROMPTS], pair_rows.pair),  # with a column amiss
    *(
        Convention(
            "lists",
            [names, *scored, PROMPTS],
            column_layouts.ranked_list,
            uses,
            partial(_listed, groups=(names, *scored)),
        )
        for names, scored, uses in (
            (LISTS, [column_layouts.SCORES], ("ranks", "rank", "preference", "origins")),
            (LISTS, [], (*column_layouts.SCORES[:3], "ranks", "rank", "preference", "origins")),
            (column_layouts.RATED, [column_layouts.SCORES], ()),
        )
    ),
    Convention(
        "lists",
        [column_layouts.RATED, PROMPTS],
        column_layouts.ranked_list,
        fits=lambda row: any(_graded(row.get(name)) for name in column_layouts.RATED),
    ),
    Convention(
        "responses",
        [SINGLE, PROMPTS],
        column_layouts.single,
        (*LABELS, "reasoning_content", "tool_calls"),
        numbers=NUMBERS,
        words=SAYING,
        fits=lambda row: _answers(row) and _asks(row),
    ),
    Convention("prompts", [DIALOGUES], column_layouts.open_dialogue, fits=_ends_open, by_file=True),
    Convention("dialogues", [DIALOGUES], column_layouts.dialogue, LABELS, numbers=NUMBERS, words=SAYING),
    Convention("prompts", [PROMPTS], column_layouts.prompt_only, fits=_only_prompt),
    Convention("texts with the markup of a chat template", all_of("text"), column_layouts.marked_text, fits=_marked),
)
"""In the order in which they are tried: what has the most particular columns comes first."""
