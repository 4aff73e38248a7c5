"""The sections of a report on what runs logged while they trained."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from align.evaluation.report_page import Section, SideBySide, Table, png
from align.evaluation.run_figures import curves, heat, layers
from align.evaluation.run_log import ROLLOUTS, TABLES, read_columns
from align.evaluation.run_reader import Run, Series

CURVES = re.compile(
    r"(train|val)/(loss|accuracy|margin|rewards/(margins|accuracies))|gold/(reward|kl|share_of_optimum)"
    r"|rewards/(?!.*(text/|/sigmoid)).+|judge/win_rate"
)
LAST = re.compile(
    r"val/(loss|accuracy|rows|rewards/(margins|accuracies))|gold/(reward|kl)|rewards/(?!.*(text/|/sigmoid)).+"
)
LAYER = re.compile(r"train/layer_(\d+)/(fve|cosine|shift)$")
LAYER_MEASURES = {"fve": "share of the target reached (FVE)", "cosine": "cosine to the target", "shift": "shift"}


def end_section(runs: Sequence[Run]) -> list[Section]:
    """Return the last value of what was measured while training."""
    tags = _ordered({tag for run in runs for tag in run.series if LAST.fullmatch(tag)})
    rows = []
    for run in runs:
        cells = [_number(run.last(tag)) for tag in tags]
        rows.append([run.name, *cells, _judged(run)])
    if not any(cell for row in rows for cell in row[1:]):
        return []
    header = ["run", *tags, "judge/win_rate"]
    kept = [i for i in range(len(header)) if i == 0 or any(row[i] for row in rows)]
    table = Table([header[i] for i in kept], [[row[i] for i in kept] for row in rows])
    text = (
        "The last value each run logged. Runs keep means of these, not a value per prompt, so that they cannot be "
        "compared in pairs and nothing is marked; align evaluate does that. Losses of methods differ in scale."
    )
    return [Section("While training", text, [table])]


def curve_section(runs: Sequence[Run]) -> list[Section]:
    """Return the curves of training."""
    panels: dict[str, dict[str, dict[int, Series]]] = {}
    for place, run in enumerate(runs):
        for tag, series in run.series.items():
            if CURVES.fullmatch(tag) and len(series.steps) > 1:
                kind = f"{tag}, {_objective(run)}" if tag.endswith("/loss") else tag  # losses of one kind compare
                panels.setdefault(tag, {}).setdefault(kind, {})[place] = series
    figures = [curves(kind, found) for tag in _ordered(panels) for kind, found in panels[tag].items()]
    text = "Long series are smoothed over eight logged steps." if figures else ""
    return [Section("Curves", text, figures=figures, keys=[r.name for r in runs])] if figures else []


def layer_section(runs: Sequence[Run]) -> list[Section]:
    """Return how far representations came to their targets, by layer, for runs that align them."""
    found: dict[str, dict[int, dict[int, Series]]] = {}
    for place, run in enumerate(runs):
        for tag in sorted(run.series):
            if match := LAYER.fullmatch(tag):
                found.setdefault(match.group(2), {}).setdefault(place, {})[int(match.group(1))] = run.series[tag]
    figures = [
        layers(
            LAYER_MEASURES[measure], {p: {k: s.values[-1] for k, s in of.items()} for p, of in found[measure].items()}
        )
        for measure in LAYER_MEASURES
        if measure in found
    ]
    for place, of in found.get("fve", {}).items():
        figures.append(heat(f"{runs[place].name}: {LAYER_MEASURES['fve']}", of))
    figures += [
        png(run.picture, f"{run.name}: share of the way left, by layer and position") for run in runs if run.picture
    ]
    if not figures:
        return []
    text = (
        "Last logged values by layer, and how they came about; shift is the size of the target over that of the hidden "
        "state. The picture a run drew itself shows what is left of the way by layer and position: 0 is at the target."
    )
    return [Section("Representations by layer", text, figures=figures, keys=[r.name for r in runs])]


def sample_section(runs: Sequence[Run], examples: int) -> list[Section]:
    """Return the last samples of runs side by side, where they sampled on the same prompts."""
    tables = {run.name: dict(run.samples) for run in runs if run.samples}
    prompts = list(dict.fromkeys(prompt for table in tables.values() for prompt in table))
    prompts.sort(key=lambda prompt: -sum(prompt in table for table in tables.values()))
    cases = [
        SideBySide(prompt, [(name, table[prompt], None) for name, table in tables.items() if prompt in table])
        for prompt in prompts[:examples]
    ]
    text = "The last sample table of every run, drawn at random while training: a look, not a measurement."
    return [Section("Samples", text, comparisons=cases)] if cases else []


def rollout_section(runs: Sequence[Run]) -> list[Section]:
    """Return the last samples that runs trained on, with what their rewards made of them."""
    found = [(run.name, read_columns(run.folder / TABLES, ROLLOUTS)) for run in runs]
    tables = [Table(t.columns, t.rows, words=True, caption=f"{name}, step {t.step}") for name, t in found if t]
    text = (
        "Samples of one step as it trained on them: the reward after penalties with the scores behind it, the "
        "advantage (mean over tokens), and the divergence from the reference per token in nats, where one is read."
    )
    return [Section("Samples that were trained on", text, tables)] if tables else []


def _judged(run: Run) -> str:
    rate, low, high = (run.last(f"judge/win_rate{end}") for end in ("", "_low", "_high"))
    return (
        "" if rate is None else f"{rate:.3f}" if low is None or high is None else f"{rate:.3f} [{low:.3f}, {high:.3f}]"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _objective(run: Run) -> str:
    objective: Mapping[str, object] = run.config.get("model", {}).get("init_args", {}).get("objective") or {}
    return str(objective.get("class_path", run.method)).rsplit(".", 1)[-1]


def _ordered(tags: Iterable[str]) -> list[str]:
    """Return tags with gold and other rewards first, then losses."""
    kinds = ("gold/", "rewards/", "judge/", "train/loss", "val/loss", "train/", "val/")
    return sorted(tags, key=lambda tag: (next(i for i, k in enumerate(kinds) if tag.startswith(k)), tag))
