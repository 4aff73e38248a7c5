"""Rows of a Parquet file, from any of them on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from align.data.located import Located
from align.errors import DataError, shorten

ROWS = 1000
"""Rows that are in memory at a time."""


def read_parquet(path: Path, unpacked: Any = None, start: int = 0) -> Iterator[Located]:
    """Yield the rows from number `start` on; the row groups before are not touched.

    `unpacked` is the open file where the one on disk is packed. Raises DataError for a damaged file.
    """
    source = str(path) if unpacked is None else pa.BufferReader(unpacked.read())
    try:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        group, first = _group_of(file.metadata, start)
        number = first
        for batch in file.iter_batches(ROWS, row_groups=list(range(group, file.metadata.num_row_groups))):
            kept = batch.slice(min(max(start - number, 0), batch.num_rows))
            number += batch.num_rows
            for place, row in enumerate(kept.to_pylist(), number - kept.num_rows + 1):
                yield Located(f"{path}, row {place}", row)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: damaged Parquet file ({shorten(error)})") from error


def _group_of(metadata: Any, start: int) -> tuple[int, int]:
    """Return the row group that holds a row, and the number of the first row in it."""
    group = first = 0
    while group < metadata.num_row_groups and first + metadata.row_group(group).num_rows <= start:
        first += metadata.row_group(group).num_rows
        group += 1
    return group, first
