"""Which convention a file follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from align.data.column_names import plainly
from align.data.convention import Convention
from align.data.conventions import ABOUT, CONVENTIONS
from align.data.pair_rows import CHOSEN, REJECTED
from align.data.proposing import prompt_like, proposal
from align.data.readers import Located, Row
from align.errors import DataError, shorten

PEEK = 200
"""Rows that decide it."""


def convention_of(row: Row, *, of_file: bool = False) -> Convention | None:
    """Return the first convention that fits a row, alone or as one of its file's first."""
    return next((c for c in CONVENTIONS if (of_file or not c.by_file) and c.matches(row)), None)


def followed(rows: Sequence[Located]) -> Convention | None:
    """Return the convention most rows follow, None where none fits."""
    found = Counter(c for located in rows if (c := convention_of(located.row, of_file=True)) is not None)
    return found.most_common(1)[0][0] if found else None


def by_plain_names(rows: Sequence[Located]) -> bool:
    """Tell whether rows follow a convention only without the case, spaces and hyphens of their columns' names."""
    own = followed(rows)
    if own is not None and own.name != "prompts":
        return False
    plain = followed([plainly(located) for located in rows])
    return plain is not None and plain.name != (own.name if own else "")


def choose(rows: Sequence[Located]) -> Convention:
    """Return the convention most rows follow. Raises DataError where none fits, with what to write."""
    if (convention := followed(rows)) is not None:
        return convention
    where, row = rows[0]
    texts = [str(name) for name, value in row.items() if isinstance(value, str) and name not in ABOUT]
    others = [name for name in texts if name not in (*CHOSEN, *REJECTED)]
    if len(others) < len(texts):
        raise DataError(
            f"{where}: chosen and rejected are texts without role markers and no column is known to hold their prompt "
            f"(there: {', '.join(map(str, row))}): name it, such as --data.columns "
            f"'{{prompt: {prompt_like(row, others)}}}'"
        )
    raise DataError(
        f"{where}: columns {shorten(', '.join(map(str, row)), 200) or 'none'} fit no convention "
        "(prompt/chosen/rejected, chosen/rejected as whole dialogues, prompt/completions/scores, "
        "prompt/completion/label, messages, prompt, or a public dataset's): "
        f"{proposal(row, texts, alone=len(rows) == 1)}"
    )
