"""Questions answered by a thought and a text, or by calls, in the columns of the datasets that are known for them."""

from __future__ import annotations

import json
from typing import Any

from align.data.convention import Convention, all_of
from align.data.located import Located, Row
from align.data.row_parts import RowParts, prompt_of
from align.data.row_validation import field
from align.data.turns import message_of


def s1k(located: Located) -> RowParts:
    """Read s1K (Muennighoff et al. 2025, arXiv:2501.19393): the first of `thinking_trajectories`, and the `attempt`."""
    thoughts = field(located, "thinking_trajectories", list)
    thought = thoughts[0] if thoughts else ""
    return _thought(located, "question", thought, field(located, "attempt"))


def medical(located: Located) -> RowParts:
    """Read medical-o1-reasoning-SFT (Chen et al. 2024, arXiv:2412.18925): question, thought, response."""
    return _thought(located, "Question", located.row["Complex_CoT"], field(located, "Response"))


def called(located: Located) -> RowParts:
    """Read xLAM's function calls (Liu et al. 2024, arXiv:2406.18518): `answers` holds them as JSON text."""
    turn = message_of(located.where, {"role": "assistant", "content": None, "tool_calls": located.row["answers"]})
    return RowParts(prompt_of(located, "query"), [[turn]])


def _thought(located: Located, key: str, thought: Any, text: str) -> RowParts:
    turn = {"role": "assistant", "content": text, "reasoning_content": thought}
    return RowParts(prompt_of(located, key), [[message_of(located.where, turn)]])


def _calls(row: Row) -> bool:
    """Return whether the answers of a row are calls of the tools beside them."""
    if not isinstance(row["answers"], str):
        return False
    try:
        calls = json.loads(row["answers"])
    except ValueError:
        return False
    return isinstance(calls, list) and bool(calls) and all(isinstance(c, dict) and "name" in c for c in calls)


REASONING = (
    Convention("s1K", all_of("question", "thinking_trajectories", "attempt"), s1k),
    Convention("medical-o1", all_of("Question", "Complex_CoT", "Response"), medical),
    Convention("xLAM function calls", all_of("query", "tools", "answers"), called, fits=_calls),
)
