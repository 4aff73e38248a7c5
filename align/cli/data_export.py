"""`align data export`: what is read of a file, in the field's columns."""

from __future__ import annotations

from pathlib import Path

from align.cli.data_read import about, source_of
from align.cli.functions import FunctionVerb
from align.cli.pushing import PUSHING, Target, push_file
from align.data.data_card import data_card, place_in_repository
from align.data.drop_report import Report
from align.data.exported_rows import ExportName, exported
from align.data.writing import check_ending, write_rows
from align.errors import ConfigError


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
    source, report = source_of(file, split, columns, ignore_columns), Report()
    rows = exported(source.read(split, report), view, report, messages=messages)
    write_rows(place, rows)
    for line in about(report):
        print(line)
    print(f"{out}: {len(rows)} {view}, columns {', '.join(rows[0])}")
    if target is not None:
        card = data_card(file, rows, [f"view: {view}", *about(report)], split=split, out=place)
        push_file(place, place_in_repository(split, place), card, target, dry_run=dry_run)


VERB = FunctionVerb(export, positional=True, unused=PUSHING)
