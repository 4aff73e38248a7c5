"""Pairs and single answers whose columns go by other words: better and worse, user and assistant."""

from __future__ import annotations

from functools import partial

from align.data.column_layouts import ATTRIBUTES, GRADES, LABELS, PROMPTS, SAYING, SINGLE, single
from align.data.convention import Convention, all_of
from align.data.pair_rows import PAIR_MODELS, PAIR_NUMBERS, found, pair
from align.data.readers import Located, Row
from align.data.row_parts import RowParts

COUPLES = (
    *(("chosen", "rejected"), ("better", "worse"), ("preferred", "dispreferred"), ("preferred", "rejected")),
    *(("accepted", "rejected"), ("win", "lose"), ("winning", "losing"), ("good", "bad")),
)
"""What the better answer and the worse one are called."""
NOUNS = ("response", "answer", "output", "completion", "summary", "text", "messages", "conversations", "conversation")
ASKED_AND_ANSWERED = (
    *(("user", "assistant"), ("human", "assistant"), ("human", "bot"), ("human", "gpt"), ("context", "response")),
)
"""A question and its answer, read as such where no other column asks."""


def coupled(located: Located, names: tuple[str, str]) -> RowParts:
    """Read a pair under the names `chosen` and `rejected`."""
    row = {name: value for name, value in located.row.items() if name not in names}
    better, worse = (located.row[name] for name in names)
    return pair(Located(located.where, {**row, "chosen": better, "rejected": worse}))


def answered(located: Located, names: tuple[str, str]) -> RowParts:
    """Read a question and its answer under the names `prompt` and `completion`."""
    row = {name: value for name, value in located.row.items() if name not in names}
    question, answer = (located.row[name] for name in names)
    return single(Located(located.where, {**row, "prompt": question, "completion": answer}))


def _texts(row: Row, names: tuple[str, str]) -> bool:
    """Return whether two columns hold answers: texts, or turns."""
    values = [row[name] for name in names]
    dialogues = all(isinstance(value, list) and value and isinstance(value[0], dict) for value in values)
    return dialogues or (found(row, PROMPTS) is not None and all(isinstance(value, str) for value in values))


def _alone(row: Row, names: tuple[str, str]) -> bool:
    """Return whether a question and its answer stand where nothing else asks or answers."""
    others = [name for name in (*PROMPTS, *SINGLE) if name not in names]
    return all(isinstance(row[name], str) for name in names) and found(row, others) is None


def _forms(couple: tuple[str, str]) -> list[tuple[str, str]]:
    better, worse = couple
    named = [(f"{better}_{noun}", f"{worse}_{noun}") for noun in NOUNS]
    return [couple, *named, *((f"{noun}_{better}", f"{noun}_{worse}") for noun in NOUNS)]


_PAIRS = [names for couple in COUPLES for names in _forms(couple) if names != ("chosen", "rejected")]
NAMED = (
    *(
        Convention(
            "pairs",
            all_of(*names),
            partial(coupled, names=names),
            (*PAIR_NUMBERS, *PAIR_MODELS),
            partial(_texts, names=names),
        )
        for names in _PAIRS
    ),
    *(
        Convention(
            "responses",
            all_of(*names),
            partial(answered, names=names),
            LABELS,
            partial(_alone, names=names),
            (*GRADES, *ATTRIBUTES),
            SAYING,
        )
        for names in ASKED_AND_ANSWERED
    ),
)
"""Each is told by both of its columns."""
