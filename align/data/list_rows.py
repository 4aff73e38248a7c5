"""What rows of ranked lists say beside texts and scores: who wrote a response, and how people ranked it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

from align.data.drop_report import DroppedRow, RowError
from align.data.readers import Located
from align.data.row_parts import RowParts, said
from align.data.row_validation import field, number
from align.data.turns import messages_of
from align.records import Message

TURN = re.compile(r"<\|(prompter|assistant)\|>")
ROLES = {"prompter": "user", "assistant": "assistant"}


def rank_by_score(scores: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """Return groups of indices, highest score first, equal scores tied."""
    levels = sorted(set(scores), reverse=True)
    return tuple(tuple(i for i, s in enumerate(scores) if s == level) for level in levels)


def given_ranking(entries: Sequence[Located], what: str) -> tuple[tuple[int, ...], ...]:
    """Return groups of indices by the `rank` of each entry, the lowest first. Raises DroppedRow where one has none."""
    ranks = [number(entry.where, "rank", entry.row.get("rank")) for entry in entries]
    if any(map(math.isnan, ranks)):
        raise DroppedRow(f"{what} has no rank")
    return rank_by_score([-rank for rank in ranks])


def labelled_ranking(located: Located, count: int) -> tuple[tuple[int, ...], ...]:
    """Return how people ranked the `count` responses of a row, nothing where it does not say.

    `ranks` holds 0 for the best of them, null in any place means that not all were ranked. `preference` holds a label
    for every pair in the order (1,2) (1,3) ... (n-1,n): 1 the first is better, 2 the second, 0 neither (QA-Feedback,
    Wu et al. 2023, arXiv:2306.01693); responses are ranked by pairs won less pairs lost, since the labels can run in a
    circle.
    """
    key = next((name for name in ("ranks", "rank") if located.row.get(name) is not None), None)
    if key is not None:
        ranks = field(located, key, list)
        if len(ranks) != count or not all(r is None or type(r) is int for r in ranks):
            detail = f"{key!r} is {ranks}, expected {count} whole numbers or nulls"
            raise RowError(located.where, f"{key!r} does not fit the responses", detail)
        return () if None in ranks else rank_by_score([-r for r in ranks])
    if located.row.get("preference") not in (None, ""):
        labels, pairs = field(located, "preference", list), list(itertools.combinations(range(count), 2))
        if len(labels) != len(pairs) or any(label not in (0, 1, 2) for label in labels):
            detail = f"'preference' is {labels}, expected {len(pairs)} labels of 0, 1 or 2"
            raise RowError(located.where, "'preference' does not fit the responses", detail)
        lead = [0] * count
        for (first, second), label in zip(pairs, labels, strict=True):
            sign = {0: 0, 1: 1, 2: -1}[label]
            lead[first], lead[second] = lead[first] + sign, lead[second] - sign
        return rank_by_score(lead)
    return ()


def origins_of(located: Located, entries: Sequence[Any]) -> tuple[str, ...]:
    """Return where each response comes from: the column `origins`, or the `model` of each entry."""
    if located.row.get("origins") is None:
        return tuple(str(e.get("model", "")) if isinstance(e, dict) else "" for e in entries)
    origins = field(located, "origins", list)
    if len(origins) != len(entries):
        detail = f"{len(entries)} responses but {len(origins)} origins"
        raise RowError(located.where, "not one origin for each response", detail)
    return tuple(map(str, origins))


def entry_text(where: str, entry: Any) -> list[Message]:
    """Return one entry of a list of responses as the turns that follow the prompt."""
    if isinstance(entry, dict):
        entry = next(
            (entry[k] for k in ("text", "response", "content", "completion", "answer", "value") if k in entry), None
        )
    if isinstance(entry, list | dict):
        return messages_of(where, entry if isinstance(entry, list) else [entry])
    if not isinstance(entry, str):
        kind = type(entry).__name__
        raise RowError(where, f"a completion is {kind}, expected text")
    return said(entry)


def pro(located: Located) -> RowParts:
    """Read a row of PRO's released files (`prefix`, `suffix`, `reward`, `sft_index`) as its released code does.

    A list stands best first, whatever its rewards say: training data are re-ranked by reward, development and test data
    are not, and data without scores have 1.0 everywhere. Every response has its own prefix: the turns of a dialogue,
    each beginning with a role tag and the last a bare assistant tag, or one text to which a summary is appended.
    """
    where, row = located
    prefixes, texts = field(located, "prefix", list), field(located, "suffix", list)
    rewards = [number(where, "reward", value) for value in row.get("reward") or [1.0] * len(texts)]
    if not len(prefixes) == len(rewards) == len(texts) > 0:
        found = f"{len(prefixes)} prefixes, {len(texts)} suffixes and {len(rewards)} rewards"
        raise RowError(where, "not one prefix and reward for each suffix", found)
    if row.get("sft_index", 0) != 0:
        raise DroppedRow("sft_index is not the first response")
    contexts = [_turns(where, prefix) for prefix in prefixes]
    shared = contexts[0] if all(c == contexts[0] for c in contexts) else []
    answers = [[*c[len(shared) :], *said(str(t).strip())] for c, t in zip(contexts, texts, strict=True)]
    ratings = {} if set(rewards) == {1.0} else {"score": rewards}
    return RowParts(shared, answers, ratings=ratings, ranking=tuple((i,) for i in range(len(texts))))


def _turns(where: str, prefix: Any) -> list[Message]:
    if isinstance(prefix, str) and not TURN.match(prefix):
        return [Message("user", prefix.strip())]
    text = prefix if isinstance(prefix, str) else "".join(map(str, prefix))
    before, *parts = TURN.split(text)
    if before.strip() or not parts or parts[-2] != "assistant" or parts[-1].strip():
        raise RowError(where, "'prefix' must begin with a role tag and end with a bare <|assistant|>")
    turns = [{"role": ROLES[r], "content": text.strip()} for r, text in zip(parts[::2], parts[1::2], strict=True)][:-1]
    return messages_of(where, turns)
