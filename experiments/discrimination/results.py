"""One table over all folds and seeds that are there: every held-out pair or list once a seed, beside the baselines.

python results.py runs/discrimination OUT
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np

from align.evaluation.preference_ranking import RankedRow, measure_rows
from align.evaluation.statistics import nested_interval

NAME = re.compile(r"(list_)?(measure|bag)-(hh|uf|qa|alpaca)-(\d+)(?:-(\d+))?")
BAG = "bag of words"
SHOWN = {
    BAG: (BAG,),
    "shorter is better": ("shorter is better",),
    "reward model": ("rm.reward",),
    "untrained": ("untrained.per_token",),
    "SFT": ("sft.implicit", "sft.per_token"),
    "DPO": ("dpo.implicit", "dpo.per_token"),
    "KTO": ("kto.implicit", "kto.per_token"),
    "SimPO": ("simpo.per_token", "simpo.implicit"),
    "ORPO": ("orpo.per_token", "orpo.implicit"),
    "PRO": ("pro.per_token", "pro.implicit"),
    "RRHF": ("rrhf.per_token", "rrhf.implicit"),
    "ListMLE": ("listmle.implicit", "listmle.per_token"),
    "best of n": ("bon.per_token", "bon.implicit"),
    "RAHF": ("rahf.implicit", "rahf.per_token"),
}
"""The rewards of each row; the first is the one its method trains or is read by."""
Values = dict[str, dict[str, dict[str, tuple[str, float]]]]
"""By reward, seed and row: its prompt and the measure."""


def main(runs: str, out: str) -> None:
    """Write and print the tables of all data that are there."""
    shown, content = [], {}
    for name in ("hh", "uf", "qa", "alpaca"):
        found = [match for path in sorted(Path(runs).iterdir()) if (match := NAME.fullmatch(path.name))]
        parts = [m for m in found if m[3] == name and (Path(runs) / m[0] / "rows.jsonl").exists()]
        if any(m[2] == "measure" for m in parts):
            content[name] = table(name, Path(runs), parts, shown)
    shown.append(rates(Path(runs) / "search" / "results.json"))
    Path(out).mkdir(parents=True, exist_ok=True)
    (Path(out) / "results.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    (Path(out) / "results.md").write_text("\n".join(shown), encoding="utf-8")
    print("\n".join(shown))


def table(name: str, runs: Path, parts: list[re.Match[str]], shown: list[str]) -> dict[str, object]:
    """Return the figures of one data set, and add its table to what is shown."""
    column = 0 if name in ("hh", "uf") else 2
    measured = sorted({(int(m[5] or 0), int(m[4])) for m in parts if m[2] == "measure"})
    values = read(runs, parts, column)
    seeds = sorted({seed for seed, _ in measured})
    shown += [
        f"**{name}**, {'accuracy' if column == 0 else 'Kendall tau'}; (seed, fold) measured: {measured}",
        "",
        "| reward | n | value | SE | less bag of words |",
        "|---|---|---|---|---|",
    ]
    figures: dict[str, object] = {}
    for title, rewards in SHOWN.items():
        for reward in (r for r in rewards if r in values):
            figures[reward] = line(f"{title}, {reward.partition('.')[2]}".rstrip(", "), values, reward, measured, shown)
    shown.append("")
    return {"seeds": seeds, "measured": measured, "rewards": figures}


def read(runs: Path, parts: list[re.Match[str]], column: int) -> Values:
    """Return the measures of all rows; those of a baseline stand under no seed."""
    found: Values = {}
    for part in parts:
        lines = (runs / part[0] / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [RankedRow.of(json.loads(line)) for line in lines]
        for reward in rows[0].rewards:
            own = found.setdefault(reward, {}).setdefault(part[5] or "", {})
            measures = measure_rows(rows, reward)[:, column].tolist()
            own |= {f"{part[4]} {row.id}": (row.prompt, x) for row, x in zip(rows, measures, strict=True)}
    return found


def line(title: str, values: Values, reward: str, measured: list[tuple[int, int]], shown: list[str]) -> object:
    """Return the figures of a reward with its difference to the bag of words on the same rows, and add its line."""
    folds = {str(fold) for _, fold in measured}
    bag = next(iter(values[BAG].values()))
    keys = sorted(key for key in bag if key.split()[0] in folds)
    prompts = [bag[key][0] for key in keys]
    by_seed = [np.array([own.get(key, ("", np.nan))[1] for key in keys]) for own in values[reward].values()]
    base = np.array([bag[key][1] for key in keys])
    own = nested_interval(by_seed, prompts)
    less = nested_interval([each - base for each in by_seed], prompts)
    count = int(sum((~np.isnan(each)).sum() for each in by_seed))
    error = (own.high - own.low) / 3.92
    gap = "" if reward == BAG else f"{less.value:+.3f} [{less.low:+.3f}, {less.high:+.3f}]"
    shown.append(f"| {title} | {count} | {own.value:.3f} [{own.low:.3f}, {own.high:.3f}] | {error:.3f} | {gap} |")
    return {"n": count, "value": own._asdict(), "error": error, "less_bag_of_words": less._asdict()}


def rates(path: Path) -> str:
    """Return what the search of learning rates found."""
    found = json.loads(path.read_text()) if path.exists() else {}
    told = [f"{arm} {own['rate']:g}{'' if own['searched'] else ' (fixed)'}" for arm, own in found.items()]
    return f"learning rates: {', '.join(told)}"


if __name__ == "__main__":
    main(*sys.argv[1:])
