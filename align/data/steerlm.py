"""Data of SteerLM (Dong et al. 2023, arXiv:2310.05344) as NeMo writes them: dialogues with rated assistant turns."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from align.data.drop_report import DroppedRow, RowError
from align.data.readers import Located
from align.data.row_parts import RowParts, around
from align.data.row_validation import field, number
from align.data.turns import message_of

NAMES = (
    *("quality", "toxicity", "humor", "creativity", "helpfulness", "correctness", "coherence", "complexity"),
    "verbosity",
)
"""Order of the nine numbers of a reward model's row."""
MISSING = -100
TURN = re.compile(r"<extra_id_[01]>(System|User|Assistant)\n")
END = re.compile(r"\n?<extra_id_[12]>[^\n]*\n?\Z")


def rated_text(located: Located) -> RowParts:
    """Read `text` in SteerLM's template with a `label` of nine numbers, -100 where nobody rated."""
    where = located.where
    label = field(located, "label", list)
    if len(label) != len(NAMES):
        raise RowError(where, f"'label' does not hold {len(NAMES)} numbers", f"'label' holds {len(label)} numbers")
    before, *parts = TURN.split(END.sub("", field(located, "text")))
    if before.strip() or len(parts) < 4:
        raise RowError(where, "'text' is not in SteerLM's template")
    turns = [message_of(where, {"role": r, "content": c.strip()}) for r, c in zip(parts[::2], parts[1::2], strict=True)]
    turns = [m for m in turns if m.role != "system" or m.content]
    values = [number(where, name, value) for name, value in zip(NAMES, label, strict=True)]
    known = {n: [math.nan if v == MISSING else v] for n, v in zip(NAMES, values, strict=True)}
    return RowParts(around(located, turns[:-1]), [turns[-1:]], known)


def rated_dialogue(located: Located) -> Iterable[RowParts]:
    """Read a dialogue whose turns have a `label` such as `quality:4,toxicity:0`: one record per labelled turn."""
    where = located.where
    turns = field(located, "conversations", list)
    messages = [message_of(where, turn) for turn in turns]
    rated = [i for i, turn in enumerate(turns) if turn.get("label") and messages[i].role == "assistant"]
    if not rated:
        raise DroppedRow("no turn of the assistant has a label")
    for i in rated:
        suffix = f"#{i}" if len(rated) > 1 else ""
        prompt = around(located, messages[:i], "conversations")
        yield RowParts(prompt, [[messages[i]]], _grades(where, turns[i]["label"]), suffix=suffix)


def labelled(row: dict[str, Any]) -> bool:
    """Return whether the turns of a dialogue have SteerLM's labels."""
    turns = row.get("conversations")
    return isinstance(turns, list) and any(isinstance(t, dict) and isinstance(t.get("label"), str) for t in turns)


def _grades(where: str, label: str) -> dict[str, list[float]]:
    pairs = [part.split(":", 1) for part in label.split(",") if part.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise RowError(where, "label of a turn is not name:number", f"label {label!r} is not name:number,...")
    return {name.strip(): [number(where, name.strip(), value)] for name, value in pairs}
