"""`align report`: one HTML page, and its tables as Markdown, that compare runs."""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path

from align.cli.functions import call
from align.errors import ConfigError
from align.evaluation.report_inputs import gather
from align.evaluation.report_page import markdown, write_page
from align.evaluation.run_report import lead, sections


def run(words: list[str]) -> int:
    """Run the verb."""
    folders = list(takewhile(lambda word: not word.startswith("-"), words))
    if not folders and not any(word.startswith(("-h", "--help", "--runs")) for word in words):
        raise ConfigError("name the folders to compare before the options: align report RUN RUN ...")
    given = ["--runs", json.dumps(folders)] if folders else []
    return call(report, [*given, *words[len(folders) :]], "report")


def report(
    runs: list[str],
    *,
    lm_eval: list[str] = [],  # noqa: B006  never changed
    out: str = "runs/report.html",
    title: str = "Runs compared",
    examples: int = 8,
) -> None:
    """Compare runs in one self-contained HTML page, with the tables as Markdown beside it: `align report RUN RUN ...`.

    Shows what there is: rewards and wins of `align evaluate`, directions, values and curves of training, layers of
    representation alignment, responses side by side, settings that differ, data and seeds, how each model is asked, and
    what lm-eval measured before and after (alignment tax).

    Args:
        runs: Run folders, model folders, and folders of `align evaluate`, `align directions` or `align pareto`.
        lm_eval: Results of `align benchmark lm-eval`, or of lm-eval itself, before and after: the first model is what
            the others are compared with. Found in a run folder as lm_eval.json, or lm_eval_before.json and
            lm_eval_after.json.
        out: Page to write; the tables go beside it, to the same name with .md.
        title: Of the page.
        examples: Prompts to show responses to.
    """
    if Path(out).suffix != ".html" or examples < 0:
        raise ConfigError(f"out must end in .html and examples be at least 0, got {out!r} and {examples}")
    found = gather(runs, lm_eval)
    about, parts = lead(found), sections(found, examples)
    write_page(Path(out), title, about, parts)
    tables = Path(out).with_suffix(".md")
    tables.write_text(markdown(title, about, parts), encoding="utf-8")
    print(f"{about} Written to {out} and {tables}")
