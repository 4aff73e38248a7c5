"""Sources whose rows may have columns beside the dataset's own that reward functions read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from align.data.choosing import PEEK
from align.data.column_use import check_kept, kept_columns
from align.data.read_row import ReadRow
from align.data.readers import Located
from align.data.source import Source
from align.errors import DataError
from align.records import Example


class KeepingSource(Source):
    """A source that keeps columns as they are, beside what it makes of a row."""

    peek = PEEK

    def __init__(self, path: str, *, keep_columns: Sequence[str] = (), **options: Any) -> None:
        """Describe the data.

        Args:
            path: A file, a folder, or a hub id.
            keep_columns: Columns for reward functions, such as `[answer]`.
            options: See Source.
        """
        super().__init__(path, **options)
        self._kept = tuple(dict.fromkeys(keep_columns))

    def reading(self, first: Sequence[Located]) -> ReadRow:
        """Return how the rows of a file are read. Raises ConfigError for a column to be kept that it has not."""
        check_kept(first, self._kept)
        return super().reading(first)

    def fingerprint_of(self, content: str) -> str:
        """Return the hash with the columns that are kept; without any it is what it was before there was a choice."""
        return super().fingerprint_of(f"{content} keeps {self._kept}" if self._kept else content)

    def keeping(self, rows: Sequence[Located], example: Example) -> Example:
        """Return the example with what its rows hold in the kept columns.

        Raises DataError where they hold different things: a kept column belongs to the prompt.
        """
        kept = [kept_columns(row, self._kept) for row in rows]
        if other := next((n for n, value in enumerate(kept) if value != kept[0]), 0):
            raise DataError(
                f"{rows[other].where}: data.keep_columns {list(self._kept)} says something else than "
                f"{rows[0].where}, which has the same prompt: keep columns that belong to the prompt"
            )
        return replace(example, kept_columns=kept[0]) if kept[0] else example

    def check_rows(self, rows: Iterator[Located]) -> Iterator[Located]:
        """Yield the rows. Raises ConfigError where the first of them lack a column that is to be kept."""
        first = list(itertools.islice(rows, PEEK))
        check_kept(first, self._kept)
        yield from itertools.chain(first, rows)
