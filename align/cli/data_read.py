"""`align data read`: looks at a data file before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from align.cli.functions import FunctionVerb
from align.data.drop_report import Report
from align.data.preference_file import PreferenceFile
from align.data.row_validation import blank
from align.data.selection import fault_of
from align.errors import ConfigError, DataError, shorten
from align.records import Beside, Example, Message
from align.strict_json import json_text

SHOWN, LINE = 3, 600


def read(
    file: str,
    *,
    columns: dict[str, str] | None = None,
    ignore_columns: list[str] | None = None,
    keep_columns: list[str] | None = None,
    split: str = "train",
) -> None:
    """Show how a file, folder or hub dataset is read.

    Args:
        file: A JSONL, JSON, Parquet, CSV or TSV file, a folder, or a hub id.
        columns: The data's columns by the name they should have, such as `{prompt: question, chosen: better}`.
        ignore_columns: Columns to read past.
        keep_columns: Columns for reward functions, such as `[answer]`.
        split: The split to read, `train`, `val` or `test`.
    """
    source, report = source_of(file, split, columns, ignore_columns, keep_columns), Report()
    fault: DataError | None = None
    examples: list[Example] = []
    try:
        examples = source.read(split, report)
    except DataError as error:
        if not report.odd:
            raise
        fault = error  # after what there is to see
    report.kept = len(examples)
    for line in about(report):
        print(line)
    if examples:
        Console(soft_wrap=False, highlight=False).print(table(examples[:SHOWN]))
    for reason, places in unusable(examples).items():
        print(f"no method trains on: {len(places)} {reason} ({', '.join(places[:5])}{' …' if len(places) > 5 else ''})")
    if fault is not None:
        raise fault


def source_of(
    file: str, split: str, columns: dict[str, str] | None, ignored: list[str] | None, kept: list[str] | None = None
) -> PreferenceFile:
    """Return the reader of a file. Raises ConfigError for a split that it has not."""
    source = PreferenceFile(file, columns=columns, ignore_columns=ignored or (), keep_columns=kept or ())
    names = source.split_names()
    if not names.get(split):
        raise ConfigError(f"--split {split}: {file} has {', '.join(n for n, found in names.items() if found)}")
    return source


def about(report: Report) -> Iterator[str]:
    """Yield what is known of a file: its convention, its columns, its rows."""
    for layout, count in report.layouts.most_common():
        yield f"layout: {layout}, {count} rows" + (f" ({report.why})" if report.why else "")
    for column, place in report.unused.items():
        yield f"column not used: {column} (first in {place})"
    yield f"rows: {report.read} read, {report.kept} kept"
    for reason, count in report.dropped.most_common():
        places = report.ids.get(reason, [])
        yield f"dropped: {count} {reason} ({', '.join(places)}{' …' if count > len(places) else ''})"
    yield from report.notes
    yield from (f"WARNING {line}" for line in report.warnings)


def unusable(examples: list[Example]) -> dict[str, list[str]]:
    """Return the responses that every method leaves out, by reason."""
    found: dict[str, list[str]] = {}
    for example in examples:
        for reason in filter(None, (fault_of(example, i) for i in range(len(example.responses)))):
            found.setdefault(reason, []).append(example.id)
    return found


def table(examples: list[Example]) -> Table:
    """Return rows as they were understood: what asks, what answers, and how good each answer is."""
    shown = Table(show_lines=True)
    for heading in ("row", "prompt", "response", "rank", "scores"):
        shown.add_column(heading, overflow="fold")
    for example in examples:
        for place in range(max(len(example.responses), 1)):
            asked = place == 0 or bool(example.contexts)
            cells = [example.id, _prompt(example.context(place), example.tools)] if asked else ["", ""]
            if example.kept_columns and place == 0:
                cells[1] += f"\nkept: {shorten(json_text(example.kept), LINE)}"
            shown.add_row(*(Text(cell) for cell in [*cells, *_response(example, place)]))
    return shown


def _prompt(messages: tuple[Message, ...], tools: str) -> str:
    turns = "\n".join(f"{m.role}: {_turn(m)}" for m in messages)
    schemas, settings = Beside.of(tools)
    given = {"tools": schemas, "chat_template_kwargs": json_text(dict(settings)) if settings else ""}
    return "\n".join([*(f"{name}: {shorten(text, LINE)}" for name, text in given.items() if text), turns])


def _response(example: Example, place: int) -> list[str]:
    if not example.responses:
        return ["", "", ""]
    scores = zip(example.attributes, example.scores[place] if example.scores else (), strict=False)
    rank = str(example.ranks[place]) if example.ranking else ""
    return [_turn(example.answer(place)), rank, "\n".join(f"{name} {score:g}" for name, score in scores)]


def _turn(message: Message) -> str:
    parts = [
        f"[thought] {message.reasoning_content}" if message.reasoning_content else "",
        message.content if not message.content or not blank(message.content) else ascii(message.content),
        f"[calls] {message.tool_calls}" if message.tool_calls else "",
        f"[weight {message.weight:g}]" if message.weight != 1 else "",
    ]
    text = " ".join(part for part in parts if part)
    return text if len(text) <= LINE else f"{text[: LINE - 1]}…"


VERB = FunctionVerb(read, positional=True)
