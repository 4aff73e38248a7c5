"""Any task of EleutherAI's lm-eval, as it ships it, on our folders, and what training changed."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from align.errors import ConfigError, did_you_mean
from align.evaluation.harness import harness, too_long


class Measured(NamedTuple):
    """One measure of one task."""

    task: str
    metric: str
    """With lm-eval's filter behind it where there is one, as in `exact_match,strict-match`."""
    value: float
    error: float | None
    """Standard error over documents, as lm-eval estimates it; None where it does not."""
    documents: int
    higher_is_better: bool | None
    values: tuple[float, ...] | None = None
    """Of each document, in the order of the task, where their mean is the value; None where that is not known."""


def check_tasks(tasks: Sequence[str], include: str | None) -> Any:
    """Return lm-eval's task manager. Raises ConfigError for a task that it does not know, and without lm-eval."""
    make = harness().tasks.TaskManager
    if include is not None:
        own = make(include_path=include, include_defaults=False)
        if set(tasks) <= set(own.all_subtasks):  # reading the ten thousand tasks of lm-eval takes many seconds
            return own
    manager = make(include_path=include)
    known = set(manager.all_tasks)
    if unknown := [task for task in tasks if task not in known]:
        guess = did_you_mean(unknown[0], known)
        raise ConfigError(
            f"tasks: lm-eval has no {unknown[0]!r}{guess} ({len(known)} tasks are known; --include names a folder of "
            "your own)"
        )
    return manager


def measure_tasks(
    model: Any,
    tasks: Sequence[str],
    manager: Any,
    *,
    chat: bool,
    shots: int | None,
    limit: int | None,
    seed: int = 0,
) -> list[Measured]:
    """Return every measure of every task, in lm-eval's own words.

    Args:
        model: lm-eval's wrapper of it.
        tasks: Their names.
        manager: Knows them.
        chat: Use the model's template.
        shots: Examples in the prompt.
        limit: Documents of every task.
        seed: Of all that is drawn.
    """
    seeds = dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed"), seed)
    options: dict[str, Any] = {"num_fewshot": shots, "limit": limit, "apply_chat_template": chat, "log_samples": True}
    with torch.random.fork_rng():
        found = harness().simple_evaluate(model, tasks=list(tasks), task_manager=manager, **options, **seeds)
    _tell_cut(found["samples"], model)
    return [one for task, values in found["results"].items() for one in measures_of(task, values, found)]


def _tell_cut(samples: dict[str, list[dict[str, Any]]], model: Any) -> None:
    """Say of how many documents the start was cut off to fit the context, where the tokenizer is known."""
    if getattr(model, "tokenizer", None) is None:
        return
    for task, rows in samples.items():
        asked = [[pair for pair in row["arguments"] if len(pair) == 2] for row in rows]  # a rolled text is one alone
        if cut := sum(any(too_long(text, rest, model) for text, rest in pairs) for pairs in asked):
            print(
                f"{task}: {cut} of {len(rows)} documents are longer than the context: cut from the left",
                file=sys.stderr,
            )


def measures_of(task: str, values: dict[str, Any], found: dict[str, Any]) -> list[Measured]:
    """Return the measures of a task in lm-eval's results."""
    better = found.get("higher_is_better", {}).get(task, {})
    samples = found.get("n-samples", {}).get(task, {}).get("effective", 0)
    rows = []
    for key, value in values.items():
        metric, comma, rest = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error = values.get(f"{metric}_stderr,{rest}")
        known = float(error) if isinstance(error, (int, float)) and math.isfinite(error) else None
        name = metric if rest == "none" else key
        own = _of_documents(found.get("samples", {}).get(task, []), metric, rest, float(value))
        rows.append(Measured(task, name, float(value), known, int(samples), better.get(metric), own))
    return rows


def _of_documents(samples: list[dict[str, Any]], metric: str, kind: str, mean: float) -> tuple[float, ...] | None:
    """Return the value of each document, None where the task's value is not their mean."""
    rows = sorted((s for s in samples if s.get("filter", kind) == kind), key=lambda sample: sample["doc_id"])
    found = [row.get(metric) for row in rows]
    if not found or not all(isinstance(value, (int, float)) for value in found):
        return None
    values = tuple(map(float, found))  # type: ignore[arg-type]
    return values if math.isclose(sum(values) / len(values), mean, rel_tol=1e-9, abs_tol=1e-12) else None
