"""Files of other kinds that people have rows in, told by how they begin."""

from __future__ import annotations

from pathlib import Path

from align.errors import DataError

FOREIGN = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"SQLite format 3\x00": "an SQLite database",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"ARROW1": "an Arrow file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"\x80\x04\x95": "a pickle",
}


def check_kind(path: Path, head: bytes) -> None:
    """Raise DataError for a file that begins like one of another kind, with what to do with it."""
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{path}: a Git LFS pointer, not the data: run `git lfs pull`")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: UTF-16 text, expected UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`")
    tar = head[257:262] == b"ustar"
    kind = "a tar archive" if tar else next((kind for begin, kind in FOREIGN.items() if head.startswith(begin)), "")
    if kind:
        raise DataError(f"{path}: {kind}, expected JSONL, JSON, Parquet, CSV or TSV: unpack or export it first")
