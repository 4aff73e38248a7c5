"""`align annotate serve`: a page for blind human judgments."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from align.annotation.annotation_store import AnnotationStore
from align.annotation.form import RatingScale
from align.annotation.items import QUESTIONS, AnnotationItem, Task
from align.annotation.listening import Listen
from align.cli.annotation_form import form_of, labeller_form
from align.cli.annotation_judgments import STORE
from align.cli.functions import FunctionVerb
from align.cli.unused import Unused, without
from align.errors import ConfigError

NEW = "task, question and limit belong to the items of a new store, as does the seed: give --completions too"
ASKED = "what is asked of responses and raters belongs to a new store: give --completions too"
UNUSED = (
    Unused(("task", "question", "limit", "seed"), without("completions"), NEW),
    Unused(("scale", "fields", "labeller"), without("completions"), ASKED),
)


def serve(  # noqa: PLR0913  the signature is the command line
    completions: dict[str, str] | str | None = None,
    *,
    store: str = STORE,
    raters: list[str] | None = None,
    task: Task | None = None,
    question: str | None = None,
    scale: RatingScale | None = None,
    fields: str | None = None,
    labeller: str | None = None,
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
        scale: Rating of every response beside the choice, as `--scale.high 7 --scale.high_label "very good"`.
        fields: YAML file of questions about every response, a list of mappings with name, question, values (yes and no
            if left out) and required (false), or, for a scale, name, low, high, question, low_label, high_label and
            required (true); the scale named `rating` can order responses. `configs/annotation/instruct_gpt.yaml` has
            InstructGPT's; a `--scale` takes the place of its rating.
        labeller: YAML file of questions about the raters, each of whom is asked once before the first item: name,
            question, values (free text if left out) and required (false), as in `configs/annotation/labeller.yaml`.
            Answers stand in exported rows, and agreement is shown within groups. Null asks nothing.
        guidelines: Text file that raters find under Help.
        limit: Items at most, drawn by the seed.
        seed: Of the order of the items.
        listen: Where the page can be reached.
        new_links: Draw new links; those printed before open nothing any more.
    """
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the page needs {' and '.join(missing)}: pip install 'align-lm[annotation]'")
    from align.annotation.server_process import serve as serve_page

    told, form, about = _guidelines(guidelines), form_of(scale, fields), labeller_form(labeller)
    _check_raters(raters or [])
    gathered = None if completions is None else _gathered(completions, task or "pairs", limit, seed)
    opened = AnnotationStore(Path(store), create=gathered is not None)
    try:
        if gathered is not None:
            kind = task or "pairs"
            opened.begin(gathered[0], kind, question or QUESTIONS[kind], form, about)
            print(*gathered[1], sep="\n")
        opened.add_raters(raters or ([] if opened.raters() else ["rater"]))
        if new_links:
            opened.renew_links()
        serve_page(opened, listen, told)
    finally:
        opened.close()


def _gathered(
    completions: dict[str, str] | str, task: Task, limit: int | None, seed: int
) -> tuple[list[AnnotationItem], list[str]]:
    from align.annotation.item_gathering import gather  # reads any data format, and so takes seconds to import

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


VERB = FunctionVerb(serve, unused=UNUSED)
