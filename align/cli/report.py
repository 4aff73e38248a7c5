"""`align report`: one HTML page, and its tables as Markdown, that compare runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from align.cli.functions import FunctionVerb
from align.cli.typed_words import listed_first
from align.errors import ConfigError
from align.evaluation.report_inputs import gather
from align.evaluation.report_page import markdown, write_page
from align.evaluation.run_report import lead, sections


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
        runs: Before all options, run folders, model folders, and folders of `align evaluate`, `align front measure` or
            `align front compare`.
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


VERB = FunctionVerb(report, reword=partial(listed_first, "--runs"))
