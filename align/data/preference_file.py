"""Any preference file or dataset in the field's column conventions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from align.data.columns import example_of
from align.data.module import PreferenceDataModule
from align.data.readers import Located
from align.data.source import DroppedRow, Report, Source
from align.records import Example


class PreferenceFile(Source):
    """Reads JSONL, JSON, Parquet, CSV or TSV files, folders of them, or hub datasets."""

    def __init__(self, path: str, *, columns: Mapping[str, str] | None = None, **options: Any) -> None:
        """Describe the data.

        Args:
            path: A file, a folder (`train.jsonl`, `test.jsonl`, ... or another layout of the hub), or a hub id.
            columns: Names of the data's columns by the name they should have, such as `{prompt: question}`.
            options: See Source.
        """
        super().__init__(path, **options)
        self.columns = dict(columns or {})

    def parse(self, rows: Iterable[Located], report: Report) -> Iterator[Example]:
        """Read each row by its columns."""
        back = {there: here for here, there in self.columns.items()}
        for where, row in rows:
            located = Located(where, {back.get(key, key): value for key, value in row.items()})
            example_id = located.row.get("id")
            name = str(example_id) if example_id is not None else where.removeprefix(self.path).lstrip("/, ")
            try:
                yield example_of(located, self.name, name)
            except DroppedRow as reason:
                report.drop(str(reason), name)


class PreferenceFileDataModule(PreferenceDataModule):
    """Serves a preference file: pairs, ranked lists, unpaired rows, single responses or prompts, by its columns."""

    def __init__(
        self, path: str, max_samples: int | None = None, *, columns: dict[str, str] | None = None, **options: Any
    ) -> None:
        """Describe the data.

        Args:
            path: A JSONL, JSON, Parquet, CSV or TSV file, a folder, or a hub id.
            max_samples: Use at most this many examples of each split, chosen by a hash of their ids.
            columns: Names of the data's columns by the name they should have, such as `{prompt: question}`.
            options: See PreferenceDataModule.
        """
        super().__init__([PreferenceFile(path, columns=columns, max_samples=max_samples)], **options)
