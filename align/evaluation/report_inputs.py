"""Finds what a report can show in the folders it is given, and calls every model by one name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from align.errors import ConfigError, DataError
from align.evaluation.alignment_tax import FILE, PAIR, ModelMeasures, measures_in, read_measures
from align.evaluation.evaluation_reader import RESULTS, Evaluation, read_evaluation
from align.evaluation.fronts import Front, read_front
from align.evaluation.run_reader import Run, read_run

FRONT, FRONTS = "front.json", "fronts"
LOOKED_FOR = (
    f"config.yaml or tensorboard events of `align fit`, config.json or adapter_config.json of a model, {RESULTS} of "
    f"`align evaluate`, {FRONT} or {FRONTS}/*.json of `align front measure` and `align front compare`, {FILE} or "
    f"{' and '.join(PAIR)} of `align benchmark lm-eval`"
)


@dataclass(frozen=True)
class Material:
    """All that was found in the folders of a report."""

    runs: list[Run]
    evaluations: list[Evaluation]
    fronts: list[Front]
    names: list[str]
    """Of all models, runs first; their places decide the colours."""
    taxes: list[tuple[str, list[ModelMeasures]]] = field(default_factory=list)
    """What lm-eval measured, by where it was found."""


def gather(folders: Sequence[str], lm_eval: Sequence[str] = ()) -> Material:
    """Read folders. Raises ConfigError for one that holds nothing to report, DataError for a damaged file.

    Args:
        folders: Of runs, models, evaluations, fronts.
        lm_eval: Files of results of lm-eval, before and after, beside those in the folders.
    """
    runs: dict[Path, Run] = {}
    evaluations: list[Evaluation] = []
    fronts: list[Front] = []
    taxes = [("given files", [m for path in lm_eval for m in read_measures(Path(path))])] if lm_eval else []
    for given in dict.fromkeys(folders):
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"{given}: no such folder, expected a run, model or evaluation folder")
        run, results = read_run(folder), folder / RESULTS
        swept = [p for p in (folder / FRONT, *sorted((folder / FRONTS).glob("*.json"))) if p.is_file()]
        measured = measures_in(run.folder if run is not None else folder)
        if run is None and not (results.is_file() or swept or measured):
            raise ConfigError(f"{given}: nothing to report (looked for {LOOKED_FOR}){_inside(folder)}")
        if run is not None:
            runs.setdefault(_key(run.folder), run)
        if results.is_file():
            evaluations.append(read_evaluation(results))
        fronts += map(read_front, swept)
        if measured:
            taxes.append((folder.name, [m for path in measured for m in read_measures(path)]))
    return replace(_named(list(runs.items()), _merged(evaluations), fronts), taxes=taxes)


def names_of(folders: Sequence[Path]) -> dict[Path, str]:
    """Return the shortest ends of paths that tell them apart."""
    known = list(dict.fromkeys(folders))
    found: dict[Path, str] = {}
    for folder in known:
        others = [other.parts for other in known if other != folder]
        length = 1
        while length < len(folder.parts) and any(folder.parts[-length:] == other[-length:] for other in others):
            length += 1
        found[folder] = "/".join(folder.parts[-length:])
    return found


def _inside(folder: Path) -> str:
    """Return a hint at what lies one level below."""
    holding = sorted(p for p in folder.iterdir() if p.is_dir() and (read_run(p) or (p / RESULTS).is_file()))
    return f": name folders inside it, such as {', '.join(map(str, holding[:3]))}" if holding else ""


def _key(path: Path) -> Path:
    """Return what identifies a model: its run folder, where the model lies in one."""
    whole = path.expanduser().resolve()
    return whole.parent if whole.name == "model" else whole


def _named(runs: list[tuple[Path, Run]], evaluations: list[Evaluation], fronts: list[Front]) -> Material:
    """Give every model one name, wherever it comes from."""
    typed = dict.fromkeys(name for e in evaluations for name in [*e.models, *(n for pair in e.judged for n in pair)])
    keys = {name: _key(Path(name)) for name in typed if name != "references"}
    names = names_of([*(key for key, _ in runs), *keys.values()])
    called = {**{name: names[key] for name, key in keys.items()}, "references": "references"}
    renamed = [
        replace(
            e,
            models={called[name]: levels for name, levels in e.models.items()},
            judged={(called[a], called[b]): found for (a, b), found in e.judged.items()},
            asked={called[name]: told for name, told in e.asked.items() if name in called},
        )
        for e in evaluations
    ]
    shown = [replace(run, name=names[key]) for key, run in runs]
    return Material(shown, renamed, fronts, list(dict.fromkeys(names.values())))


def _merged(evaluations: list[Evaluation]) -> list[Evaluation]:
    """Put together evaluations on the same prompts, sampled in the same way: their models are compared in pairs.

    Raises DataError where two of them disagree on a model.
    """
    groups: dict[str, Evaluation] = {}
    for place, found in enumerate(evaluations):
        key = _protocol(found) if found.prompts else str(place)
        if key not in groups:
            groups[key] = found
            continue
        first = groups[key]
        models = {name: dict(levels) for name, levels in first.models.items()}
        for name, levels in found.models.items():
            for temperature, level in levels.items():
                known = models.setdefault(name, {}).setdefault(temperature, level)
                if known.completions != level.completions and known.per_prompt != level.per_prompt:
                    raise DataError(f"{first.folder} and {found.folder} disagree on {name}: give one of them")
        groups[key] = replace(
            first, models=models, judged={**first.judged, **found.judged}, asked={**first.asked, **found.asked}
        )
    return list(groups.values())


def _protocol(found: Evaluation) -> str:
    sampling: dict[str, Any] = {**found.settings.get("sampling", {}), "temperatures": None}
    return json.dumps([found.prompts, sampling], sort_keys=True)
