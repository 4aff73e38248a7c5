"""Two answers with a verdict, as arenas, AlpacaFarm and other programs write them."""

from __future__ import annotations

import json
import math
from typing import Any

from align.data.column_layouts import prompt_key
from align.data.drop_report import DroppedRow, RowError
from align.data.list_rows import given_ranking, rank_by_score
from align.data.pair_rows import whole_dialogues
from align.data.readers import Located
from align.data.row_parts import RowParts, prompt_of, said
from align.data.row_validation import field, flag, number
from align.data.turns import messages_of
from align.errors import shorten
from align.records import Message

FIRST, SECOND, TIE = ((0,), (1,)), ((1,), (0,)), ((0, 1),)
WINNERS = {
    **{"model_a": FIRST, "model_b": SECOND, "a": FIRST, "b": SECOND},
    **dict.fromkeys(("tie", "both_good", "both_bad", "tie (bothbad)", "bothbad"), TIE),
}


def battle(located: Located) -> RowParts:
    """Read a battle of Chatbot Arena (Zheng et al. 2023, arXiv:2306.05685): two dialogues and who won."""
    where, row = located
    winner = WINNERS.get(str(row["winner"]).strip().lower())
    if winner is None:
        raise RowError(where, "'winner' names no side", f"'winner' is {row['winner']!r}, expected model_a or model_b")
    return _compared(
        located, [messages_of(where, field(located, key, list)) for key in ("conversation_a", "conversation_b")], winner
    )


def votes(located: Located) -> RowParts:
    """Read a battle of Chatbot Arena's competition files: questions and answers as JSON lists of texts, three flags."""
    where, row = located
    won = [flag(where, key, row.get(key)) for key in ("winner_model_a", "winner_model_b", "winner_tie")]
    if [bool(w) for w in won].count(True) != 1:
        raise DroppedRow("not exactly one of winner_model_a, winner_model_b and winner_tie is set")
    asked, *sides = (_texts(where, key, row[key]) for key in ("prompt", "response_a", "response_b"))
    if any(len(side) != len(asked) for side in sides):
        raise DroppedRow("not one answer to each question")
    dialogues = [
        [turn for q, a in zip(asked, side, strict=True) for turn in (Message("user", q), Message("assistant", a))]
        for side in sides
    ]
    return _compared(located, dialogues, (FIRST, SECOND, TIE)[won.index(True)])


def farmed(located: Located) -> RowParts:
    """Read AlpacaFarm's and AlpacaEval's annotations: `preference` 1: the first, 2: the second, 1.5 or 0: neither."""
    where, row = located
    preference = number(where, "'preference'", row.get("preference"))
    if math.isnan(preference):
        raise DroppedRow("'preference' is empty: no preference")
    if preference and not 1 <= preference <= 2:
        raise RowError(where, "'preference' is out of range", f"'preference' is {preference:g}, expected 1 to 2")
    first = 1.5 if preference == 0 else preference
    texts = [said(field(located, key)) for key in ("output_1", "output_2")]
    origins = [str(row.get(key) or "") for key in ("generator_1", "generator_2")]
    return RowParts(prompt_of(located, prompt_key(located)), texts, {}, rank_by_score([-first, first - 3]), origins)


def swift(located: Located) -> RowParts:
    """Read ms-swift's pairs: the better answer is `response`, or the last turn of `messages`."""
    where, row = located
    if row.get("response") is not None:
        texts = [said(field(located, key)) for key in ("response", "rejected_response")]
        return RowParts(prompt_of(located, prompt_key(located)), texts, {}, FIRST)
    better = messages_of(where, field(located, "messages", list))
    if row.get("rejected_messages") is not None:
        worse = messages_of(where, field(located, "rejected_messages", list))
    elif better and better[-1].role == "assistant":
        worse = [*better[:-1], *said(field(located, "rejected_response"))]
    else:
        raise DroppedRow("last turn is not the assistant's")
    return whole_dialogues(located, [better, worse], {"ranking": FIRST})


def ranked_turns(located: Located) -> RowParts:
    """Read NeMo RL's preferences: a `context`, and `completions` as turns, each with a `rank`, 0 the best."""
    entries = [Located(located.where, entry) for entry in field(located, "completions", list)]
    ranking = given_ranking(entries, "a completion")
    turns = [messages_of(located.where, field(entry, "completion", list)) for entry in entries]
    return RowParts(prompt_of(located, "context"), turns, {}, ranking)


def _compared(located: Located, dialogues: list[list[Message]], ranking: tuple[tuple[int, ...], ...]) -> RowParts:
    bare = Located(located.where, {k: v for k, v in located.row.items() if k != "prompt"})
    origins = [str(located.row.get(key) or "") for key in ("model_a", "model_b")]
    return whole_dialogues(bare, dialogues, {"ranking": ranking, "origins": origins})


def _texts(where: str, key: str, value: Any) -> list[str]:
    """Return texts written as a JSON list."""
    try:
        texts = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        texts = None
    if not isinstance(texts, list) or not texts:
        raise RowError(
            where, f"{key!r} is no list of texts", f"{key!r} is {shorten(value, 30)!r}, expected a JSON list"
        )
    if not all(isinstance(text, str) for text in texts):
        raise DroppedRow(f"{key!r} holds an empty turn")
    return texts
