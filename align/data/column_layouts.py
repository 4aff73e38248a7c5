"""The field's own conventions: pairs, lists, unpaired rows, single responses, dialogues and prompts."""

from __future__ import annotations

import math
import re
from typing import Any

from align.data.drop_report import DroppedRow, RowError
from align.data.list_rows import entry_text, labelled_ranking, origins_of, rank_by_score
from align.data.markup import answer_to, whole_dialogue
from align.data.readers import Located
from align.data.row_parts import RowParts, around, joined, prompt_of, said
from align.data.row_validation import field, flag, number
from align.data.turns import TRAINED, message_of, messages_of

DIALOGUES = ("messages", "conversations", "conversation", "trajectory", "contents")
LATE = ("input_text", "question_body", "user_prompt", "user_input")
PROMPTS = ("prompt", "question", "instruction", "query", "INSTRUCTION", *DIALOGUES, "problem", "input", "inputs", *LATE)
BESIDE = PROMPTS[:5]
"""Prompts that whole dialogues must hold where both are there."""
LISTS = ("completions", "responses")
RATED = ("generations", "answers", "candidates")
"""Lists that are read as responses where their scores stand beside them."""
SCORES = ("scores", "rewards", "ratings", "rating", "score", "reward")
SINGLE = (
    "completion",
    "response",
    "output",
    "generated_solution",
    "solution",
    "answer",
    "generation",
    "RESPONSE",
    "targets",
    "target",
    "output_text",
)
LABELS = ("label", "kto_tag", "is_safe", "desirable", "is_desirable", "thumbs_up", "is_good", "liked")
SAYING = ("feedback", "vote", "thumbs", "reaction", "human_feedback")
"""Columns that are a label where they hold a word for one."""
GRADES = ("score", "reward", "rating")
ENTRY_GRADES = (*GRADES, "pm_score")
"""Names of the score of one of several responses; the last is that of stack-exchange-preferences."""
SIDES = (("input", "output"), ("human", "assistant"), ("user", "assistant"), ("question", "answer"))
"""What a question and its answer are called in a dialogue that is a list of both."""
ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


GOOD = frozenset({"good", "positive", "chosen", "accepted", "desirable", "thumbs up", "up", "like", "liked", "upvote"})
BAD = frozenset(
    {"bad", "negative", "rejected", "undesirable", "thumbs down", "down", "dislike", "disliked", "downvote"}
)
"""Words for a response that is wanted, and for one that is not."""


def prompt_key(located: Located) -> str:
    """Return the column that holds the prompt. Raises RowError where there is none: a prompt is never made up."""
    key = next((name for name in PROMPTS if located.row.get(name) is not None), None)
    if key is None:
        raise RowError(located.where, "no prompt: the answers are texts that begin with no role marker")
    return key


def ranked_list(located: Located) -> RowParts:
    """Read several responses with scores, ranks or labels of all pairs, best-known order first."""
    where, row = located
    key = next(name for name in (*LISTS, *RATED) if isinstance(row.get(name), list))
    entries = field(located, key, list)
    turns = [entry_text(where, entry) for entry in entries]
    graded = [
        next((e[n] for n in ENTRY_GRADES if e.get(n) is not None), None) if isinstance(e, dict) else None
        for e in entries
    ]
    for name in SCORES:
        if isinstance(row.get(name), list) or (name in SCORES[:3] and row.get(name) is not None):
            graded = field(located, name, list)
            break
    if len(graded) != len(turns):
        raise RowError(where, f"not one score for each of {key}", f"{len(turns)} {key} but {len(graded)} scores")
    scores = [number(where, "score", value) for value in graded]
    known = not any(map(math.isnan, scores))
    return RowParts(
        prompt_of(located, prompt_key(located)),
        turns,
        ratings={"score": scores},
        ranking=labelled_ranking(located, len(turns)) or (rank_by_score(scores) if known else ()),
        origins=origins_of(located, entries),
    )


def two_outputs(located: Located) -> RowParts:
    """Read an `output` that holds the better and the worse response, as LLaMA-Factory's first rankings do."""
    turns = [entry_text(located.where, entry) for entry in located.row["output"]]
    return RowParts(prompt_of(located, prompt_key(located)), turns, ranking=((0,), (1,)))


def single(located: Located) -> RowParts:
    """Read one response with a label, with scores, or alone."""
    where, row = located
    key, asked = next(name for name in SINGLE if name in row), prompt_key(located)
    value = field(located, key, (str, list, dict))
    if isinstance(value, list):
        turns = messages_of(where, value)
    else:
        turns = [message_of(where, value)] if isinstance(value, dict) else said(answer_to(row[asked], value))
    more = {name: row[name] for name in ("reasoning_content", "tool_calls") if row.get(name)}
    if more and turns:
        turns = [*turns[:-1], message_of(where, {**turns[-1].as_turn(), **more})]
    return RowParts(prompt_of(located, asked), [turns], ratings=_ratings(located))


def dialogue(located: Located) -> RowParts:
    """Read a dialogue that ends with the assistant, labelled or not."""
    where = located.where
    key = next(name for name in DIALOGUES if name in located.row)
    turns = messages_of(where, _alternating(field(located, key, list)))
    if not turns or turns[-1].role != "assistant":
        raise DroppedRow("last turn is not the assistant's")
    context, ratings = turns[:-1], _ratings(located)
    beside = next((n for n in BESIDE if located.row.get(n)), None)
    if beside is not None:
        asked = prompt_of(Located(where, {beside: located.row[beside]}), beside)
        context = joined(asked, context, "the dialogue")
    return RowParts(around(located, context, key), [turns[-1:]], ratings, whole="desirable" not in ratings)


def open_dialogue(located: Located) -> RowParts:
    """Read a dialogue whose last turn is to be answered as a prompt, as in AllenAI's RLVR files."""
    return RowParts(prompt_of(located, next(name for name in DIALOGUES if name in located.row)))


def _alternating(turns: list[Any]) -> list[Any]:
    """Return turns one by one that are written as question and answer (Capybara, MOSS) or as bare texts (LIMA)."""
    if turns and all(isinstance(turn, str) for turn in turns):
        return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]
    sides = next((two for two in SIDES if all(isinstance(t, dict) and t.keys() >= set(two) for t in turns)), None)
    if sides is None:
        return turns
    return [
        {"role": role, "content": turn[key], **_learnt(role, turn)}
        for turn in turns
        for role, key in (("system", "system"), ("user", sides[0]), ("assistant", sides[1]))
        if role != "system" or turn.get("system")
    ]


def _learnt(role: str, turn: dict[str, Any]) -> dict[str, Any]:
    """Return what says whether an answer is learnt, as XTuner writes it beside question and answer."""
    return {name: turn[name] for name in TRAINED if name in turn} if role == "assistant" else {}


def marked_text(located: Located) -> RowParts:
    """Read a dialogue that was written into one text, as TRL's language modelling takes it."""
    turns = whole_dialogue(located.row["text"])
    return RowParts(around(located, turns[:-1]), [turns[-1:]], _ratings(located), whole=True)


def prompt_only(located: Located) -> RowParts:
    """Read a prompt."""
    return RowParts(prompt_of(located, prompt_key(located)))


def _ratings(located: Located) -> dict[str, list[float]]:
    """Return the label of a row and its scores by attribute."""
    where, row = located
    told = [*LABELS, *(key for key in SAYING if is_verdict(row.get(key)))]
    labels = [label for key in told if (label := _label(where, key, row.get(key))) is not None]
    scores = {n: [number(where, f"{n!r}", row[n])] for n in (*GRADES, *ATTRIBUTES) if is_number(row.get(n))}
    return {**({"desirable": [float(labels[0])]} if labels else {}), **scores}


def _label(where: str, key: str, value: object) -> bool | None:
    return _said(value) in GOOD if is_verdict(value) else flag(where, key, value)


def is_verdict(value: object) -> bool:
    """Return whether a value is a word that says whether a response is good."""
    return isinstance(value, str) and _said(value) in GOOD | BAD


def _said(value: object) -> str:
    return re.sub(r"[\s_-]+", " ", str(value).strip().lower())


def is_number(value: object) -> bool:
    """Return whether a value is a number, perhaps written as text."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool)
