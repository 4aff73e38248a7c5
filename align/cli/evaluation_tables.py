"""Tables of `align evaluate` for the screen: every number with its interval, no winner inside the noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from align.evaluation.comparison import Scale
from align.evaluation.judging import JudgeReport
from align.evaluation.reward_evaluation import TOTAL, ResponseReport
from align.evaluation.statistics import Interval, Line, paired_difference
from align.strict_json import json_text

MEASURES = (
    "mean_words",
    "refusal_rate",
    "repetition_4",
    "finished",
    "prompts_cut",
    "bleu_characters_pro",
    "bleu_corpus",
)


def reward_table(reports: Mapping[str, Mapping[float, ResponseReport]], told: Mapping[str, str]) -> Table:
    """Return rewards and text measures by model and temperature, in total and, where there are several, by subset.

    A star marks a difference to the first model, at the same temperature and on the same prompts, whose 95 % interval
    leaves out 0.
    """
    first = next(iter(reports.values()))
    outputs = list(next(iter(first.values())).rewards)
    odds = [o for o in outputs if next(iter(first.values())).rewards[o][TOTAL].sigmoid is not None]
    table = Table(title="rewards (95 % bootstrap over prompts; * differs from the first model)", title_justify="left")
    for header in (
        "model",
        "T",
        "subset",
        *(f"{name(o)}" for o in outputs),
        *("sigmoid x100" if odds == outputs else f"sigmoid x100 {name(o)}" for o in odds),
        "words",
    ):
        table.add_column(header, justify="left" if header in ("model", "subset") else "right")
    for header in ("refusals", "repetition", "ended", "cut", "BLEU chars", "BLEU", "KL"):
        table.add_column(header, justify="right")
    for model, levels in reports.items():
        for temperature, report in levels.items():
            for subset in (TOTAL, *report.text_by_subset):
                cells = _reward_cells(report, first[temperature], subset, outputs)
                table.add_row(*map(Text, (called(model, told), f"{temperature:g}", subset, *cells)))
    return table


def _reward_cells(report: ResponseReport, first: ResponseReport, subset: str, outputs: Sequence[str]) -> list[str]:
    inside = [subset in (TOTAL, s) for s in report.subsets]
    raw = [short(report.rewards[o][subset].raw) + _star(report, first, o, inside) for o in outputs]
    chances = [report.rewards[o][subset].sigmoid for o in outputs]
    scaled = [short(chance) for chance in chances if chance is not None]
    text = report.text if subset == TOTAL else report.text_by_subset[subset]
    kl = "" if report.kl is None or subset != TOTAL else short(report.kl)
    return [*raw, *scaled, *(_plain(text.get(key)) for key in MEASURES), kl]


def judge_table(reports: Mapping[str, JudgeReport], against: str, told: Mapping[str, str]) -> Table:
    """Return wins, ties and losses of each model."""
    judge = next(iter(reports.values())).judge
    table = Table(title=Text(f"judged by {judge}, against {called(against, told)}"), title_justify="left")
    headers = ("win %", "tie %", "lose %", "win rate %", "same length %", "flips %", "first %", "invalid", "canaries")
    table.add_column("model")
    for header in headers:
        table.add_column(header, justify="right")
    for model, report in reports.items():
        c = report.total
        shares = [short(Interval(*(100 * v for v in part))) for part in (c.win, c.tie, c.lose, c.win_rate)]
        rest = [f"{100 * c.length_controlled:.1f}", short(Interval(*(100 * v for v in c.flip_rate)))]
        known = "" if report.canaries is None else f"{100 * report.canaries:.0f} %"
        row = (*shares, *rest, f"{100 * c.first_rate:.1f}", f"{c.invalid} of {c.invalid + c.items}", known)
        table.add_row(Text(called(model, told)), *row)
    return table


def judge_notes(report: Mapping[str, Any]) -> str:
    """Return what stands below a judge's table: what was asked and paid, what was no verdict, what looks odd."""
    counts = {key: value for key, value in report.items() if isinstance(value, int)}
    asked, reused = (counts.pop(key, 0) for key in ("questions asked", "replies reused"))
    notes = [f"{asked} questions asked, {reused} replies reused"]
    if (spent := report.get("store")) is not None:
        cost = "" if spent["cost"] is None else f", cost {spent['cost']:.4g}"
        notes.append(f"in the store so far {spent['requests']} requests, {spent['tokens']:,} tokens{cost}")
    notes += [f"{key}: {value}" for key, value in counts.items() if value]
    notes += [f"no verdict, {reason}: {count}" for reason, count in report.get("invalid_replies", {}).items()]
    return "; ".join(notes)


def scale_table(scales: Mapping[Scale, Mapping[str, float]], told: Mapping[str, str]) -> Table:
    """Return the readings of RAHF's Eq. 5, a row for each model and for what all are compared with."""
    table = Table(title="win rates on a common scale (readings of RAHF's Eq. 5)", title_justify="left")
    for header in ("model", *scales):
        table.add_column(header, justify="left" if header == "model" else "right")
    for model in next(iter(scales.values())):
        table.add_row(Text(called(model, told)), *(f"{values[model]:.3g}" for values in scales.values()))
    return table


def parts_table(title: str, lines: Mapping[str, Sequence[Line]], apart: Mapping[str, Sequence[Line]]) -> Table:
    """Return a row for each part of a benchmark and a column for each model.

    Args:
        title: What is measured.
        lines: What each model reaches, the same parts in the same order.
        apart: Paired differences to the first model; a star marks those whose interval leaves out 0.
    """
    table = Table(title=Text(title + (" (* differs from the first model)" if apart else "")), title_justify="left")
    counts = {place: [found[place] for found in lines.values()] for place in range(len(next(iter(lines.values()))))}
    lost = ["left out"] if any(line.left_out for of in counts.values() for line in of) else []
    for header in ("part", "measure", "n", *lost, *map(name, lines)):
        table.add_column(Text(header), justify="left" if header in ("part", "measure") else "right")
    for place, line in enumerate(next(iter(lines.values()))):
        cells = [line.part, line.measure, _each(one.items for one in counts[place])]
        cells += [_each(one.left_out for one in counts[place])] if lost else []
        for model, found in lines.items():
            star = "*" if model in apart and apart[model][place].value.excludes_zero else " "
            cells.append(short(found[place].value) + star)
        table.add_row(*map(Text, cells))
    return table


def _each(numbers: Iterable[int]) -> str:
    """Return the number of every model, once where all are the same."""
    return " / ".join(map(str, found if len(set(found := list(numbers))) > 1 else found[:1]))


def show(table: Table) -> None:
    """Print a table, wide enough for a log file."""
    console = Console(width=None if Console().is_terminal else 220)
    console.print(table)


def write_json(out: str | None, content: Mapping[str, Any]) -> None:
    """Write results as a JSON file, where one is asked for."""
    if out is None:
        return
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(json_text(content, indent=1), encoding="utf-8")
    print(f"written to {out}")


def called(model: str, told: Mapping[str, str]) -> str:
    """Return a short name, and what the model is asked where that is not the prompt alone."""
    return f"{name(model)} ({told[model]})" if model in told else name(model)


def name(path: str) -> str:
    """Return a short name for a folder: its last part, or that of the run it lies in."""
    parts = (Path(path) if Path(path).name not in ("", "..") else Path(path).resolve()).parts  # `.`, `..`, `runs/..`
    return parts[-2] if len(parts) > 1 and parts[-1] == "model" else parts[-1]


def short(value: Interval) -> str:
    """Return a value and its interval with few digits, a dash where there is none."""
    if math.isnan(value.value):
        return "-"
    return f"{value.value:.3g} [{value.low:.3g}, {value.high:.3g}]"


def _star(report: ResponseReport, first: ResponseReport, output: str, inside: Sequence[bool]) -> str:
    if report is first:
        return ""
    ours, theirs = (np.array(r.per_prompt[output])[np.array(inside)] for r in (report, first))
    return "*" if paired_difference(ours, theirs).excludes_zero else " "


def _plain(value: float | str | None) -> str:
    return "" if value is None else f"{round(value, 4):.3g}" if isinstance(value, float) else str(value)
