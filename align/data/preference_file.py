"""Any preference file or dataset in the field's column conventions."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from align.data.cells import decoded
from align.data.choosing import by_plain_names, choose, convention_of
from align.data.column_names import plainly
from align.data.column_use import ASKED, check_columns, note_columns, renamed
from align.data.convention import Convention
from align.data.data_module import PreferenceDataModule
from align.data.drop_report import LeftOut, Report, RowError
from align.data.keeping_source import KeepingSource
from align.data.located import Gather
from align.data.read_row import ReadRow
from align.data.readers import Located
from align.data.row_parts import RowParts, example_of
from align.errors import ConfigError
from align.records import Example


class PreferenceFile(KeepingSource):
    """Reads JSONL, JSON, Parquet, CSV or TSV files, folders of them, or hub datasets."""

    def __init__(
        self,
        path: str,
        *,
        columns: Mapping[str, str] | None = None,
        ignore_columns: Sequence[str] = (),
        keep_columns: Sequence[str] = (),
        **options: Any,
    ) -> None:
        """Describe the data.

        Args:
            path: A file, a folder (`train.jsonl`, `test.jsonl`, ... or another layout of the hub), or a hub id.
            columns: The data's columns by the name they should have, such as `{prompt: question, chosen: better}`.
            ignore_columns: Columns to read past, which would otherwise be named or refused.
            keep_columns: Columns for reward functions, such as `[answer]`; they are no response and no label unless
                `columns` names them too.
            options: See Source.
        """
        super().__init__(path, keep_columns=keep_columns, **options)
        self.columns, self.ignore_columns = dict(columns or {}), tuple(ignore_columns)
        aside = set(self._kept) - ASKED - set(self.columns.values())
        self._past = (*self.ignore_columns, *aside)
        if both := [name for name in self._kept if name in self.ignore_columns]:
            raise ConfigError(f"data.keep_columns and data.ignore_columns both name {both[0]!r}: leave one of them out")

    def reading(self, first: Sequence[Located]) -> ReadRow:
        """Return the convention that most of the first rows of a file follow."""
        check_columns(first, self.columns)
        super().reading(first)
        known = [decoded(self._renamed(one), strict=False) for one in first]
        plain = by_plain_names(known)
        known = list(map(plainly, known)) if plain else known
        convention = self.adapted(choose(known))
        why = next(convention.why(one.row) for one in known if convention.matches(one.row))
        gather = convention.gather and functools.partial(self._gathered, convention.gather, plain)
        if gather and self._kept:
            raise ConfigError(
                f"{first[0].where}: data.keep_columns keeps columns of rows, and several rows of the layout "
                f"{convention.name!r} make an example: leave it out"
            )
        return ReadRow(functools.partial(self._read, convention, plain), convention.name, why, gather)

    def _gathered(self, gather: Gather, plain: bool, rows: Iterable[Located]) -> Iterable[Located | RowError]:
        return gather(plainly(self._renamed(one)) if plain else self._renamed(one) for one in rows)

    def _renamed(self, located: Located) -> Located:
        return renamed(located, self.columns, self._past)

    def adapted(self, convention: Convention) -> Convention:
        """Return the convention as this source reads it."""
        return convention

    def _read(self, convention: Convention, plain: bool, located: Located, report: Report) -> Iterator[Example]:
        raw, located = located, decoded(self._renamed(located))
        located = plainly(located) if plain else located
        own = _own(convention, located)
        report.layouts[own.name] += 1
        note_columns(report, located, own, self.place(located))
        found = own.read(located)
        name, count = self._name(located), 0
        for parts in [found] if isinstance(found, RowParts) else found:
            report.read += bool(count)  # of several parts each is a row
            count += 1
            if isinstance(parts, LeftOut):
                report.refuse(parts, located.where, name)
                continue
            example = self.keeping([raw], example_of(located, parts, name, self.name))
            yield example if isinstance(found, RowParts) else replace(example, among=True)

    def _name(self, located: Located) -> str:
        """Return the id of a row: its own, or its place."""
        own = located.row.get("id")
        name = self.place(located) if own is None or own == "" else str(own)
        return name.encode("utf-8", "backslashreplace").decode()


def _own(convention: Convention, located: Located) -> Convention:
    """Return the convention of a row, which may be another than that of its file. Raises RowError where none fits."""
    own = convention if convention.matches(located.row) else convention_of(located.row)
    if own is None:
        names = ", ".join(map(str, located.row)) or "none"
        raise RowError(located.where, "columns fit no convention", f"columns {names} fit no convention")
    return own


class PreferenceFileDataModule(PreferenceDataModule):
    """Serves a preference file: pairs, ranked lists, unpaired rows, single responses or prompts, by its columns."""

    def __init__(
        self,
        path: str,
        max_samples: int | None = None,
        *,
        columns: dict[str, str] | None = None,
        ignore_columns: list[str] | None = None,
        keep_columns: list[str] | None = None,
        **options: Any,
    ) -> None:
        """Describe the data.

        Args:
            path: A JSONL, JSON, Parquet, CSV or TSV file, a folder, or a hub id.
            max_samples: Use at most this many examples of each split, chosen by a hash of their ids.
            columns: The data's columns by the name they should have, such as `{prompt: question, chosen: better}`.
            ignore_columns: Columns to read past, which would otherwise be named or refused.
            keep_columns: Columns for reward functions, such as `[answer]`; they are no response and no label unless
                `columns` names them too.
            options: See PreferenceDataModule.
        """
        beside = {"ignore_columns": ignore_columns or (), "keep_columns": keep_columns or ()}
        super().__init__([PreferenceFile(path, columns=columns, max_samples=max_samples, **beside)], **options)
