"""`align benchmark lm-eval`: any task of lm-eval on models, and the difference between the first and the others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from align.cli.evaluation_tables import name, show, write_json
from align.cli.functions import FunctionVerb
from align.cli.model_options import gathered
from align.errors import ConfigError
from align.evaluation.alignment_tax import cells, changes, headed
from align.evaluation.harness import in_chat, wrapped
from align.evaluation.lm_eval_endpoints import check_server, faults_told, served, server_of
from align.evaluation.lm_eval_tasks import Measured, check_tasks, measure_tasks
from align.evaluation.policy import Policy
from align.models.asked import ModelAsking, asking, asking_of
from align.models.backbone import Backbone
from align.records.asking import MeasuredModel
from align.sampling.http import Server


def lm_eval(
    models: dict[str, str | MeasuredModel] | list[str],
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
        models: Folders or hub ids, as in [runs/sft/model,runs/dpo/model], or by name (`--models.NAME DIR`) with what
            is asked otherwise, as in `--models.NAME.plain true`. A served model has a `--models.NAME.base_url` and a
            `.model`; its `.path` names the folder of its tokenizer, `.api chat` needs none.
        tasks: Names by commas, as in ifeval,gsm8k.
        include: A folder with task files (YAML) of your own.
        chat: Put prompts into the chat template; null does so for models that are asked under something.
        shots: Examples in the prompt; null takes each task's own number.
        limit: Use the first documents of every task only.
        batch_size: Sequences at a time; of a served model `concurrency` counts instead.
        out: JSON file to write; null prints the table alone.
    """
    names = [task.strip() for task in tasks.split(",") if task.strip()]
    if not names or not models:
        raise ConfigError("models and tasks: name one of each or more, as in --models [DIR] --tasks ifeval,gsm8k")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, got {limit}")
    manager = check_tasks(names, include)
    given = models.items() if isinstance(models, dict) else [(path, path) for path in models]
    todo = [_asked(called, m if isinstance(m, MeasuredModel) else MeasuredModel(path=m)) for called, m in given]
    options = {"shots": shots, "limit": limit}
    found = [_measured(one, names, manager, How(chat, batch_size, options)) for one in todo]
    show(table([with_asking(name(one.name), one.asking) for one in todo], found))
    results = [
        {"model": one.name, "asked": one.asking.as_dict(), "results": [m._asdict() for m in measured]}
        for one, measured in zip(todo, found, strict=True)
    ]
    write_json(out, {"tasks": names, "chat": chat, "batch_size": batch_size, **options, "models": results})


class MeasuredTasks(NamedTuple):
    """A model to be measured."""

    name: str
    path: str
    asking: ModelAsking
    server: Server | None


class How(NamedTuple):
    """How all models are measured."""

    chat: bool | None
    batch_size: int
    options: dict[str, Any]


def _asked(called: str, model: MeasuredModel) -> MeasuredTasks:
    """Return a model and how it is asked. Raises ConfigError for what it cannot be, or a key that is not there."""
    path, ask = model.parts
    server = server_of(model)
    if server is not None:
        check_server(server)
    found = asking_of(path, ask) if path else asking(None, ask)
    found.tell(called)
    return MeasuredTasks(called, path, found, server)


def _measured(one: MeasuredTasks, tasks: Sequence[str], manager: Any, how: How) -> list[Measured]:
    if one.server is not None:
        return _of_server(one, one.server, tasks, manager, how)
    policy = Policy.load(Backbone(one.path), asking=one.asking)
    chat = in_chat(one.asking, how.chat, template=bool(policy.tokenizer.chat_template))
    with one.asking.steering(policy.model):
        return measure_tasks(wrapped(policy, how.batch_size), tasks, manager, chat=chat, **how.options)


def _of_server(one: MeasuredTasks, server: Server, tasks: Sequence[str], manager: Any, how: How) -> list[Measured]:
    model, tokenizer = served(server, one.path, one.asking)
    if tokenizer is None and how.chat is False:
        raise ConfigError("chat false: a server with api chat fills the template itself: leave it out")
    template = tokenizer is None or bool(tokenizer.chat_template)
    chat = in_chat(one.asking, True if tokenizer is None else how.chat, template=template)
    with faults_told(server):
        return measure_tasks(model, tasks, manager, chat=chat, **how.options)


def with_asking(called: str, asked: ModelAsking) -> str:
    """Return a name, and what the model is asked where that is not the prompt alone."""
    return f"{called} ({asked.told})" if asked.told else called


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


VERB = FunctionVerb(lm_eval, reword=partial(gathered, kind=MeasuredModel))
