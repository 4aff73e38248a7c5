"""`align annotate`: a page for blind human judgments, and what becomes of them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from align.annotation.items import QUESTIONS, Item, Task
from align.annotation.listening import Listen
from align.annotation.results import agreements, compare_names, summaries
from align.annotation.rows import Ties, list_rows, pair_rows, voted
from align.annotation.store import AnnotationStore
from align.cli.functions import call
from align.cli.unused import Unused, without
from align.errors import ConfigError, DataError, did_you_mean
from align.strict_json import json_text

STORE = "runs/annotation.sqlite"
NEW = "task, question and limit belong to the items of a new store, as does the seed: give --completions too"
UNUSED = (Unused(("task", "question", "limit", "seed"), without("completions"), NEW),)
HELP = """usage: align annotate serve|results|export [options]

Blind human comparison of responses.

  serve      the page: A/B/tie, or best and worst of several; prints a link for every rater
  results    wins, ties and losses with intervals, and the agreement of the raters
  export     judgments as rows of prompt, chosen and rejected, or as lists

align annotate serve --completions.sft sft.jsonl --completions.dpo dpo.jsonl --raters [ann,bob]"""


def run(words: list[str]) -> int:
    """Run the verb."""
    verbs: dict[str, Callable[..., None]] = {"serve": serve, "results": results, "export": export}
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if words[0] not in verbs:
        raise ConfigError(f"unknown verb {words[0]!r}{did_you_mean(words[0], verbs)}: one of {', '.join(verbs)}")
    return call(verbs[words[0]], words[1:], f"annotate {words[0]}", unused=UNUSED if words[0] == "serve" else ())


def serve(  # noqa: PLR0913  the signature is the command line
    completions: dict[str, str] | str | None = None,
    *,
    store: str = STORE,
    raters: list[str] | None = None,
    task: Task | None = None,
    question: str | None = None,
    guidelines: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    listen: Listen = Listen(),
    new_links: bool = False,
) -> None:
    """Serve the page until Ctrl-C. The same command goes on with what is judged; so does `--store` alone.

    Names of models never reach the browser. The order of responses is drawn for every item and rater and kept, the
    order of items is the same for all. A link lets in one rater; whoever has it can judge in that name.

    Args:
        completions: Files of completions by the names of their models, as `align generate` writes them
            (`--completions.a FILE --completions.b FILE`), joined by prompt; or one file with several responses per
            prompt in any of the conventions `PreferenceFileDataModule` reads.
        store: SQLite file of the judgments, on a local disk.
        raters: Names to add; null takes those of the store, or one called rater.
        task: Two responses at a time (`pairs`, what null means at first), or best and worst of all (`best_worst`).
        question: What raters are asked; null asks which is better, or best and worst.
        guidelines: Text file that raters find under Help.
        limit: Items at most, drawn by the seed.
        seed: Of the order of the items.
        listen: Where the page can be reached.
        new_links: Draw new links; those printed before open nothing any more.
    """
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the page needs {' and '.join(missing)}: pip install 'align-lm[annotation]'")
    from align.annotation.serving import serve as serve_page

    told = _guidelines(guidelines)
    _check_raters(raters or [])
    gathered = None if completions is None else _gathered(completions, task or "pairs", limit, seed)
    opened = AnnotationStore(Path(store), create=gathered is not None)
    try:
        if gathered is not None:
            kind = task or "pairs"
            opened.begin(gathered[0], kind, question or QUESTIONS[kind])
            print(*gathered[1], sep="\n")
        opened.add_raters(raters or ([] if opened.raters() else ["rater"]))
        if new_links:
            opened.renew_links()
        serve_page(opened, listen, told)
    finally:
        opened.close()


def _gathered(
    completions: dict[str, str] | str, task: Task, limit: int | None, seed: int
) -> tuple[list[Item], list[str]]:
    from align.annotation.gathering import gather  # reads any data format, and so takes seconds to import

    return gather(completions, task, limit=limit, seed=seed)


def _guidelines(path: str | None) -> str:
    try:
        return "" if path is None else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"guidelines {path}: expected a text file in UTF-8 ({error})") from error


def _check_raters(names: list[str]) -> None:
    for name in names:
        if not (name.strip() == name and 0 < len(name) <= 60 and name.isprintable()):
            raise ConfigError(f"raters: a name is 1 to 60 printable characters without blanks around it, got {name!r}")
    if len(set(names)) < len(names):
        raise ConfigError(f"raters: names must be different, got {', '.join(names)}")


def results(store: str = STORE, *, out: str | None = None) -> None:
    """Show wins, ties and losses with 95 % bootstrap intervals over prompts, and the agreement of the raters.

    Args:
        store: SQLite file of the judgments; the page may go on meanwhile.
        out: JSON file to write the same to.
    """
    from align.cli.annotation_tables import agreement_table, rater_table, win_table  # import torch, as `serve` need not
    from align.cli.evaluation_tables import show

    items, judgments = _read(store)
    wins, same = compare_names(items, judgments), agreements(items, judgments)
    people = summaries(judgments)
    show(win_table(wins))
    show(rater_table(people, sum(item.asked for item in items)))
    if same:
        show(agreement_table(same))
    if out is not None:
        content = {
            "comparisons": [{"a": a, "b": b, **asdict(found)} for (a, b), found in wins.items()],
            "raters": [rater._asdict() for rater in people],
            "agreement": [found._asdict() for found in same],
        }
        _write(Path(out), json_text(content, indent=1))


def export(
    out: str,
    store: str = STORE,
    *,
    rows: Literal["pairs", "lists"] = "pairs",
    ties: Ties = "drop",
    votes: Literal["together", "each"] = "together",
) -> None:
    """Write judgments as JSONL that `PreferenceFileDataModule` and TRL read.

    Args:
        out: File to write.
        store: SQLite file of the judgments; the page may go on meanwhile.
        rows: Pairs of chosen and rejected, or lists with the scores 1 for the best, 0 for the worst, 0.5 between.
        ties: Leave them out, keep them with equal scores, or (pairs) write them in both directions.
        votes: One row for all raters of an item, decided by the mean of their votes, or one for each judgment.
    """
    if rows == "lists" and ties == "both":
        raise ConfigError("ties both is for --rows pairs: a list says by equal scores that responses are tied")
    items, judgments = _read(store)
    found = voted(items, judgments, each=votes == "each")
    made = pair_rows(found, ties) if rows == "pairs" else list_rows(found, ties)
    reasons = ", ".join(f"{count} {reason}" for reason, count in made.left_out.most_common())
    if not made.rows:
        raise DataError(f"{store}: no judgment makes a row{f' (left out: {reasons})' if reasons else ''}")
    _write(Path(out), "".join(json_text(row) + "\n" for row in made.rows))
    print(
        f"{out}: {len(made.rows)} {rows} of {len(found)} judged items" + (f", left out: {reasons}" if reasons else "")
    )


def _read(store: str) -> tuple[list[Any], list[Any]]:
    opened = AnnotationStore(Path(store))
    try:
        items, judgments = opened.items(), opened.judgments()
    finally:
        opened.close()
    if not judgments:
        raise ConfigError(f"{store}: no judgments yet ({len(items)} items)")
    return items, judgments


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
