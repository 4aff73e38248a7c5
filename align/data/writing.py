"""Rows into a file of the field's formats, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align.errors import ConfigError, DataError, shorten
from align.files import atomic_file

ENDINGS = (".jsonl", ".parquet")


def check_ending(out: Path) -> None:
    """Raise ConfigError for a file whose ending names no format."""
    if out.suffix not in ENDINGS:
        raise ConfigError(f"--out {out}: expected a file that ends in {' or '.join(ENDINGS)}")


def write_rows(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of the same columns in the format that the file's ending names.

    Raises DataError for rows that Parquet cannot hold: values of one column must be of one type.
    """
    check_ending(out)
    if out.suffix == ".parquet":
        _write_parquet(out, rows)
        return
    with atomic_file(out) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _write_parquet(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pa.Table.from_pylist(list(rows))
    except pa.ArrowException as error:
        reason = shorten(error, 120)
        raise DataError(f"--out {out}: Parquet needs one type per column ({reason}): write .jsonl") from error
    with atomic_file(out) as part:
        pq.write_table(table, part)
