"""Rows in the field's columns, made of what was read: for other programs, and for our own reader, equal again."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from align.data.drop_report import DroppedRow, Report
from align.data.export_losses import lost_of_pair, lost_prompt, lost_scores, lost_turns, scores_of
from align.data.markup import is_markup
from align.data.row_validation import unreadable
from align.data.views import Pairs, PromptsOnly, RankedLists, RegressionRows, Singles, Unpaired, View
from align.errors import DataError
from align.records import ASKING, Beside, Example, Message

ExportName = Literal["pairs", "all_pairs", "lists", "dialogues", "singles", "unpaired", "regression", "prompts"]
"""What can be written."""
Row = dict[str, Any]
Say = Callable[[Sequence[Message]], Any]
"""Writes turns: as messages, or as the text of the one there is."""


@dataclass(frozen=True)
class Layout:
    """What is made of an example, the columns it is written in, and what of it those cannot hold."""

    view: View
    columns: Callable[[Example, Say], Row]
    lost: Callable[[Example], Iterator[str]] = lambda example: iter(())
    always_messages: bool = False


def exported(examples: Sequence[Example], name: ExportName, report: Report, *, messages: bool = False) -> list[Row]:
    """Return the rows of a layout, all with the same columns; what is left out is counted in the report.

    Prompts and responses are texts where every row is one question, messages where any has turns, a system text, tools
    or a thought, or where `messages` asks for them.
    """
    layout = LAYOUTS[name]
    groups = layout.view.apply(examples, report)
    turns = messages or layout.always_messages or not all(map(_is_text, groups))
    rows: list[Row] = []
    lost: Counter[str] = Counter()
    for group in groups:
        try:
            row = _row(group, layout.columns(group, _as_messages if turns else _as_text))
        except DroppedRow as reason:
            report.drop(str(reason), group.id, odd=True)
            continue
        rows.append(row)
        lost.update(layout.lost(group))
    report.kept = len(rows)
    if not rows:
        raise DataError(f"nothing to write as {name}: {report}")
    report.notes += [f"in {count} rows {what}" for what, count in lost.most_common()]
    if gone := [name for name in _names(examples) if name not in _names(groups)]:
        report.notes.append(f"{name} has no column for these scores: {', '.join(gone)}")
    held = dict.fromkeys(key for row in rows for key, value in row.items() if value is not None)
    return [{key: row.get(key) for key in held} for row in rows]


def _row(example: Example, columns: Row) -> Row:
    weight = {"weight": example.weight} if example.weight != 1 else {}
    row = {"id": example.id, **columns, **Beside.of(example.tools).columns, **weight}
    try:
        fault = unreadable(json.dumps(row, ensure_ascii=False, allow_nan=False))
    except ValueError:
        fault = "a number in a tool call is not finite"
    if fault:
        raise DroppedRow(fault)
    return row


def _names(examples: Sequence[Example]) -> dict[str, None]:
    return dict.fromkeys(name for example in examples for name in example.attributes)


def _is_text(example: Example) -> bool:
    """Return whether an example is a question and answers that are read as what they are from bare texts."""
    asked = example.messages[0]
    bare = len(example.messages) == 1 and asked == Message("user", asked.content.strip())
    texts = (asked.content, *example.responses)
    return bare and not (example.answers or example.contexts or example.tools or any(map(is_markup, texts)))


def _as_text(turns: Sequence[Message]) -> str:
    return turns[0].content


def _as_messages(turns: Sequence[Message]) -> list[Row]:
    return [turn.as_turn() for turn in turns]


def _divided(example: Example) -> tuple[Sequence[Message], list[Sequence[Message]]]:
    """Return the turns that all prompts begin with, and for each response those that follow, from the assistant on."""
    contexts = [example.context(i) for i in range(len(example.responses))]
    shared = next((n for n, turns in enumerate(zip(*contexts, strict=False)) if len(set(turns)) > 1), None)
    shared = min(map(len, contexts)) if shared is None else shared
    while shared and not _parts_at(contexts, shared):
        shared -= 1
    if not shared:
        raise DroppedRow("responses have different prompts")
    return contexts[0][:shared], [(*c[shared:], example.answer(i)) for i, c in enumerate(contexts)]


def _parts_at(contexts: Sequence[Sequence[Message]], place: int) -> bool:
    """Return whether every prompt goes on with an assistant's turn there, after one that asks."""
    return contexts[0][place - 1].role in ASKING and all(c[place].role == "assistant" for c in contexts if c[place:])


def _pair(example: Example, say: Say) -> Row:
    prompt, (chosen, rejected) = _divided(example)
    scores = scores_of(example) or [None, None]
    if scores[0] == scores[1]:
        scores = [None, None]  # equal scores beside an order would be read as a tie
    origins = example.origins or ("", "")
    return {
        **{"prompt": say(prompt), "chosen": say(chosen), "rejected": say(rejected)},
        **{"score_chosen": scores[0], "score_rejected": scores[1]},
        **{"chosen_model": origins[0] or None, "rejected_model": origins[1] or None},
    }


def _list(example: Example, say: Say) -> Row:
    prompt, answers = _divided(example)
    return {
        **{"prompt": say(prompt), "completions": list(map(say, answers)), "scores": scores_of(example)},
        **{"ranks": list(example.ranks), "origins": list(example.origins) or None},
    }


def _single(example: Example, say: Say) -> Row:
    row = {"prompt": say(example.messages), "completion": say([example.answer(0)])}
    return {**row, **_about(example, row)}


def _unpaired(example: Example, say: Say) -> Row:
    row = {"prompt": say(example.messages), "completion": say([example.answer(0)])}
    return {**row, "label": bool(example.scores[0][0]), **_about(example, row)}


def _dialogue(example: Example, say: Say) -> Row:
    turns = [*example.messages, example.answer(0)]
    if not example.whole:
        turns[:-1] = [t._replace(weight=0.0) if t.role == "assistant" else t for t in turns[:-1]]
    row = {"messages": say(turns)}
    return {**row, **_about(example, row)}


def _prompt(example: Example, say: Say) -> Row:
    return {"prompt": say(example.messages)}


def _about(example: Example, taken: Mapping[str, Any]) -> Row:
    """Return the scores of the one response by their names, and where it comes from."""
    values = dict(zip(example.attributes, example.scores[0], strict=True)) if example.scores else {}
    if clash := [name for name in values if name in {"id", "tools", "weight", "model", *taken}]:
        raise DroppedRow(f"a score goes by the name of another column ({clash[0]})")
    known = {name: None if math.isnan(v) else v for name, v in values.items() if name != "desirable"}
    return {**known, "model": (example.origins or ("",))[0] or None}


LAYOUTS: dict[ExportName, Layout] = {
    "pairs": Layout(Pairs(), _pair, lost_of_pair),
    "all_pairs": Layout(Pairs("all"), _pair, lost_of_pair),
    "lists": Layout(RankedLists(), _list, lost_scores),
    "dialogues": Layout(Singles(), _dialogue, lost_prompt, always_messages=True),
    "singles": Layout(Singles(), _single, lost_turns),
    "unpaired": Layout(Unpaired(), _unpaired),
    "regression": Layout(RegressionRows(), _single, lost_turns),
    "prompts": Layout(PromptsOnly(), _prompt),
}
