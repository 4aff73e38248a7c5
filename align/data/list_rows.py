"""What rows of ranked lists say beside texts and scores: who wrote a response, and how people ranked it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from align.data.fields import field, messages_of
from align.data.readers import Located
from align.data.source import DroppedRow
from align.errors import DataError
from align.records import Message

TURN = re.compile(r"<\|(prompter|assistant)\|>")
ROLES = {"prompter": "user", "assistant": "assistant"}


def rank_by_score(scores: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """Return groups of indices, highest score first, equal scores tied."""
    levels = sorted(set(scores), reverse=True)
    return tuple(tuple(i for i, s in enumerate(scores) if s == level) for level in levels)


def labelled_ranking(located: Located, count: int) -> tuple[tuple[int, ...], ...]:
    """Return how people ranked the `count` responses of a row, nothing where it does not say.

    `ranks` holds 0 for the best of them, null in any place means that not all were ranked. `preference` holds a label
    for every pair in the order (1,2) (1,3) ... (n-1,n): 1 the first is better, 2 the second, 0 neither (QA-Feedback,
    Wu et al. 2023, arXiv:2306.01693); responses are ranked by pairs won less pairs lost, since the labels can run in a
    circle.
    """
    if located.row.get("ranks") is not None:
        ranks = field(located, "ranks", list)
        if len(ranks) != count or not all(r is None or type(r) is int for r in ranks):
            raise DataError(f"{located.where}: 'ranks' is {ranks}, expected {count} whole numbers or nulls")
        return () if None in ranks else rank_by_score([-r for r in ranks])
    if isinstance(located.row.get("preference"), list):
        labels, pairs = located.row["preference"], list(itertools.combinations(range(count), 2))
        if len(labels) != len(pairs) or any(label not in (0, 1, 2) for label in labels):
            raise DataError(f"{located.where}: 'preference' is {labels}, expected {len(pairs)} labels of 0, 1 or 2")
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
        raise DataError(f"{located.where}: {len(entries)} responses but {len(origins)} origins")
    return tuple(map(str, origins))


def from_pro(located: Located) -> Located:
    """Return a row of PRO's intermediate format (`prefix`, `suffix`, `reward`, `sft_index`) as prompt and completions.

    A prefix is a list of texts that begin with a role tag, one list per response; the last is a bare assistant tag.
    """
    prefixes = field(located, "prefix", list)
    rewards, texts = field(located, "reward", list), field(located, "suffix", list)
    if not len(prefixes) == len(rewards) == len(texts) > 0:
        raise DataError(f"{located.where}: {len(prefixes)} prefixes, {len(texts)} suffixes and {len(rewards)} rewards")
    if any(prefix != prefixes[0] for prefix in prefixes):
        raise DroppedRow("responses have different prompts")
    best = located.row.get("sft_index", 0)
    if best not in range(len(rewards)) or rewards[best] != max(rewards):
        raise DroppedRow("sft_index is not the best response")
    return Located(
        located.where, {"prompt": _turns(located.where, prefixes[0]), "completions": texts, "scores": rewards}
    )


def _turns(where: str, prefix: Sequence[str]) -> list[dict[str, str]]:
    before, *parts = TURN.split("".join(map(str, prefix)))
    if before.strip() or not parts or parts[-2] != "assistant" or parts[-1].strip():
        raise DataError(f"{where}: 'prefix' must begin with a role tag and end with a bare <|assistant|>")
    turns = [{"role": ROLES[r], "content": text.strip()} for r, text in zip(parts[::2], parts[1::2], strict=True)][:-1]
    messages: list[Message] = messages_of(where, turns)
    return [message._asdict() for message in messages]
