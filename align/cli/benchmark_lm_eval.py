"""`align benchmark lm-eval`: any task of lm-eval on models, and the difference between the first and the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from align.cli.evaluation_tables import name, show, write_json
from align.cli.functions import call
from align.cli.preparing import prepare
from align.errors import ConfigError
from align.evaluation.alignment_tax import cells, changes, headed
from align.evaluation.completions import Policy
from align.evaluation.lm_eval_tasks import Measured, check_tasks, measure_tasks
from align.models.backbone import Backbone


def run(words: list[str]) -> int:
    """Run the verb."""
    prepare(words)
    return call(lm_eval, words, "benchmark lm-eval", config=True)


def lm_eval(
    models: list[str],
    tasks: str,
    *,
    include: str | None = None,
    chat: bool | None = None,
    shots: int | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    out: str | None = None,
) -> None:
    """Run tasks of lm-eval on model or adapter folders, the first of them the one before training.

    The table has each measure with its standard error, and how far every later model is from the first: what alignment
    costs elsewhere (its tax), with the standard error of the differences over the same documents. A file OUT named
    lm_eval.json in a run folder stands in its `align report`. Data of the tasks comes from the hub or its cache, or
    from files that tasks of your own name.

    Args:
        models: Folders or hub ids, as in [runs/sft/model,runs/dpo/model].
        tasks: Names by commas, as in ifeval,gsm8k.
        include: A folder with task files (YAML) of your own.
        chat: Put prompts into the chat template; null does so for models that are asked under something.
        shots: Examples in the prompt; null takes each task's own number.
        limit: Use the first documents of every task only.
        batch_size: Sequences at a time.
        out: JSON file to write; null prints the table alone.
    """
    names = [task.strip() for task in tasks.split(",") if task.strip()]
    if not names or not models:
        raise ConfigError("models and tasks: name one of each or more, as in --models [DIR] --tasks ifeval,gsm8k")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, got {limit}")
    manager = check_tasks(names, include)
    options = {"chat": chat, "shots": shots, "limit": limit, "batch_size": batch_size}
    found = [_measured(model, names, manager, options) for model in models]
    show(table([name(model) for model in models], found))
    results = [
        {"model": model, "results": [one._asdict() for one in measured]}
        for model, measured in zip(models, found, strict=True)
    ]
    write_json(out, {"tasks": names, **options, "models": results})


def _measured(model: str, tasks: Sequence[str], manager: Any, options: dict[str, Any]) -> list[Measured]:
    policy = Policy.load(Backbone(model))
    policy.asking.tell(name(model))
    return measure_tasks(policy, tasks, manager, **options)


def table(models: Sequence[str], found: Sequence[Sequence[Measured]]) -> Table:
    """Return one row per measure: every model's value, and what the others differ from the first."""
    view = Table(title="lm-eval: value ± standard error", title_justify="left")
    headers = ["task", "measure", "documents", *models, *(f"{model} - {models[0]}" for model in models[1:])]
    for place, header in enumerate(headers):
        view.add_column(Text(header), justify="left" if place < 2 else "right")
    for change in changes(found):
        values, gaps = cells(change)
        view.add_row(*map(Text, (*headed(change), *values, *gaps)))
    return view
