"""`align data`: looks at data files before anything is trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from align.cli.functions import call
from align.cli.pushing import PUSHING, Target, push_file
from align.data.data_card import data_card, place_in_repository
from align.data.drop_report import Report
from align.data.exported_rows import ExportName, exported
from align.data.preference_file import PreferenceFile
from align.data.row_validation import blank
from align.data.selection import fault_of
from align.data.writing import check_ending, write_rows
from align.errors import ConfigError, DataError, did_you_mean, shorten
from align.records import Example, Message

HELP = """usage: align data read FILE [--columns '{prompt: question, chosen: better}']
       align data export FILE --out OUT.jsonl --view pairs

read     Show how a data file is read: by which convention and why, three rows, unused columns, dropped rows.
export   Write what was read as pairs, lists, dialogues, ... in the field's columns, for other programs.

align data read --help, align data export --help     their options"""
SHOWN, LINE = 3, 600


def run(words: list[str]) -> int:
    """Run the verb."""
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        return 0
    verbs: dict[str, Callable[..., None]] = {"read": read, "export": export}
    if words[0] not in verbs:
        raise ConfigError(f"unknown verb data {words[0]!r}{did_you_mean(words[0], verbs)}: see align data --help")
    unused = PUSHING if words[0] == "export" else ()
    return call(verbs[words[0]], words[1:], f"data {words[0]}", positional=True, unused=unused)


def read(
    file: str,
    *,
    columns: dict[str, str] | None = None,
    ignore_columns: list[str] | None = None,
    split: str = "train",
) -> None:
    """Show how a file, folder or hub dataset is read.

    Args:
        file: A JSONL, JSON, Parquet, CSV or TSV file, a folder, or a hub id.
        columns: The data's columns by the name they should have, such as `{prompt: question, chosen: better}`.
        ignore_columns: Columns to read past.
        split: The split to read, `train`, `val` or `test`.
    """
    source, report = _source(file, split, columns, ignore_columns), Report()
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


def export(  # noqa: PLR0913  the signature is the command line
    file: str,
    *,
    out: str,
    view: ExportName,
    messages: bool = False,
    columns: dict[str, str] | None = None,
    ignore_columns: list[str] | None = None,
    split: str = "train",
    push_to_hub: str | None = None,
    public: bool = False,
    revision: str | None = None,
    dry_run: bool = False,
) -> None:
    """Write what is read of a file in the field's columns, which other programs train on.

    pairs and all_pairs have prompt, chosen, rejected; lists have prompt, completions, scores, ranks; dialogues have
    messages; singles and regression have prompt, completion; unpaired have prompt, completion, label. Ids, tools,
    weights and scores stand beside them; what has no column is told.

    Args:
        file: A JSONL, JSON, Parquet, CSV or TSV file, a folder, or a hub id.
        out: The file to write; its ending decides, .jsonl or .parquet.
        view: What to make of the rows. `pairs` takes the best response and one other of each prompt, `all_pairs` all
            that are ordered.
        messages: Write prompts and responses as messages even where every row is one question in plain text.
        columns: The data's columns by the name they should have, such as `{prompt: question, chosen: better}`.
        ignore_columns: Columns to read past.
        split: The split to read, `train`, `val` or `test`.
        push_to_hub: Repository on the hub that file and card are uploaded to, OWNER/NAME, made where there is none.
        public: Let everybody read it; false makes it private.
        revision: Branch to push to, made where there is none.
        dry_run: Write the file, list what would be uploaded, and upload nothing.
    """
    target = None if push_to_hub is None else Target(push_to_hub, "dataset", public, revision)
    place = Path(out)
    check_ending(place)
    if place.exists() and Path(file).exists() and place.samefile(file):
        raise ConfigError(f"--out {out} is the file that is read: give it another name")
    source, report = _source(file, split, columns, ignore_columns), Report()
    rows = exported(source.read(split, report), view, report, messages=messages)
    write_rows(place, rows)
    for line in about(report):
        print(line)
    print(f"{out}: {len(rows)} {view}, columns {', '.join(rows[0])}")
    if target is not None:
        card = data_card(file, rows, [f"view: {view}", *about(report)], split=split, out=place)
        push_file(place, place_in_repository(split, place), card, target, dry_run=dry_run)


def _source(file: str, split: str, columns: dict[str, str] | None, ignored: list[str] | None) -> PreferenceFile:
    source = PreferenceFile(file, columns=columns, ignore_columns=ignored or ())
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
            shown.add_row(*(Text(cell) for cell in [*cells, *_response(example, place)]))
    return shown


def _prompt(messages: tuple[Message, ...], tools: str) -> str:
    turns = "\n".join(f"{m.role}: {_turn(m)}" for m in messages)
    return f"tools: {shorten(tools, LINE)}\n{turns}" if tools else turns


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
