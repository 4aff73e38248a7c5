"""A report that compares runs: what each section shows follows from what the runs left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from align.evaluation.alignment_tax import tax_section
from align.evaluation.evaluation_sections import completions_section, judge_sections, reward_sections
from align.evaluation.fronts import Front
from align.evaluation.report_inputs import Material
from align.evaluation.report_page import Section, Table
from align.evaluation.run_figures import fronts
from align.evaluation.run_reader import Run
from align.evaluation.settings_diff import differences
from align.evaluation.statistics import RESAMPLES
from align.evaluation.training_sections import (
    curve_section,
    end_section,
    layer_section,
    rollout_section,
    sample_section,
)

STATISTICS = (
    f"Intervals hold 95 % of {RESAMPLES} bootstrap resamples of the prompts (seed 0); models are compared in pairs, on "
    "the same prompts. A value is marked as best only if the intervals of its differences to all others leave out 0; "
    "nothing marked means nothing is beyond the noise. One seed per run: the intervals do not hold the variation over "
    "training seeds."
)


def lead(found: Material) -> str:
    """Return what the page is about."""
    counts = (
        (len(found.runs), "run"),
        (len(found.evaluations), "evaluation"),
        (len(found.fronts), "front"),
        (len(found.taxes), "comparison by lm-eval"),
    )
    return ", ".join(f"{n} {what}{'s' * (n > 1)}" for n, what in counts if n) + "."


def sections(found: Material, examples: int) -> list[Section]:
    """Return the sections of the page.

    Args:
        found: What to report.
        examples: Prompts to show completions of.
    """
    parts: list[Section] = []
    for evaluation in found.evaluations:
        parts += [*reward_sections(evaluation, found.names), *judge_sections(evaluation)]
    parts += [tax_section(title, models) for title, models in found.taxes]
    parts += [*front_section(found.fronts), *end_section(found.runs), *curve_section(found.runs)]
    parts += layer_section(found.runs)
    shown = [s for e in found.evaluations for s in completions_section(e, examples)]
    parts += shown or sample_section(found.runs, examples)
    parts += rollout_section(found.runs)
    parts += [*settings_section(found.runs), *run_section(found.runs)]
    return [*parts, Section("How to read the numbers", STATISTICS)]


def run_section(runs: Sequence[Run]) -> list[Section]:
    """Return what every run is: method, start, data, seed, versions."""
    if not runs:
        return []
    header = ["run", "method", "starts from", "data fingerprint", "seed", "steps", "ended", "self-check", "folder"]
    rows = []
    for run in runs:
        ended = {True: "yes", False: "no", None: ""}[run.finished]
        steps = max((s.steps[-1] for s in run.series.values() if s.steps), default=0)
        rows.append([run.name, run.method, _start(run), run.fingerprint, run.seed, str(steps or ""), ended])
        rows[-1] += [run.check, str(run.folder)]
    if any(run.asked for run in runs):
        header, rows = [*header, "asked"], [[*row, run.asked or "plainly"] for row, run in zip(rows, runs, strict=True)]
    tables = [Table(header, rows, words=True)]
    packages = list(dict.fromkeys(p for run in runs for p in run.versions))
    if packages:
        versions = [[run.name, *(run.versions.get(p, "") for p in packages)] for run in runs]
        tables.append(Table(["run", *packages], versions, words=True, caption="Versions"))
    known = {run.fingerprint for run in runs if run.fingerprint}
    text = "Data of the same fingerprint are the same rows, encoded the same way."
    text += " All runs that tell were trained on the same data." * (len(known) == 1 and len(runs) > 1)
    return [Section("Runs and data", text, tables)]


def settings_section(runs: Sequence[Run]) -> list[Section]:
    """Return the settings that differ."""
    known = [run for run in runs if run.config]
    if len(known) < 2:
        return []
    differing = differences([run.config for run in known])
    if not differing:
        return [Section("Settings", "The runs have the same settings.")]
    table = Table(["setting", *(r.name for r in known)], [[k, *v] for k, v in differing.items()], words=True)
    return [
        Section(
            "Settings that differ",
            "All others are the same, or not set; — is not there.",
            [table],
        )
    ]


def front_section(found: Sequence[Front]) -> list[Section]:
    """Return what models reach in the directions they were asked for; one picture per pair of first rewards."""
    groups: dict[tuple[str, ...], list[Front]] = {}
    for front in found:
        if len(front.attributes) > 1:
            groups.setdefault(front.attributes[:2], []).append(front)
    parts = []
    for (first, second), members in groups.items():
        rows = [
            [f"{front.name}, {point.label}", *map(str, means[:2])]
            for front in members
            for point, means in zip(front.points, front.intervals(), strict=True)
        ]
        text = "Mean rewards of each way to ask, with 95 % intervals over prompts; first and last are named."
        table, picture = Table(["asked", first, second], rows), fronts(members, (first, second))
        keys = [front.name for front in members]
        parts.append(Section("Rewards by direction", text, [table], [picture], keys))
    return parts


def _start(run: Run) -> str:
    backbone: Mapping[str, object] = run.config.get("model", {}).get("init_args", {}).get("backbone") or {}
    lora = ", LoRA" if backbone.get("lora") else ""
    return f"{backbone.get('path', '')}{lora}"
