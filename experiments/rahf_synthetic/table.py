"""Prints what `run.py` measured as Markdown: a row per run, and paired differences between runs.

python experiments/rahf_synthetic/table.py [--out runs/rahf_synthetic]
Rewards are means over prompts and seeds; an interval is a 95 % bootstrap over prompts, each the mean of its samples and
seeds, so it tells of prompts and samples, not of seeds: those stand beside it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from align.evaluation.gold_evaluation import SAMPLED
from align.evaluation.statistics import mean_interval, paired_difference

ROOT = Path(__file__).parents[2]
MEASURES = {"refusals": "refusal_rate", "true facts": "true_facts", "sentences": "readable", "answers": "well_formed"}
FITS = {"shift": "shift", "at the last prompt token": "shift_last_prompt_token", "FVE": "fve", "cosine": "cosine"}
Rows = list[dict[str, Any]]


def by_prompt(rows: Rows, seeds: set[Any] | None = None) -> NDArray[np.float64]:
    """Return the reward of every prompt, averaged over its samples and over seeds, of some or of all."""
    samples = np.array([row["rewards"] for row in rows if seeds is None or row["seed"] in seeds])
    means: NDArray[np.float64] = samples.reshape(len(samples), -1, SAMPLED.num_samples).mean((0, 2))
    return means


def paired(rows: Rows, others: Rows) -> str:
    """Return the difference on the same prompts, over the seeds both have; the base has no seed and stands for all."""
    own, theirs = ({row["seed"] for row in given} for given in (rows, others))
    seeds = own & theirs if None not in theirs else own
    if not seeds:
        return ""
    found = paired_difference(by_prompt(rows, seeds), by_prompt(others, seeds | {None}))
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def mean_of(rows: Rows, name: str) -> str:
    """Return the mean over seeds of a measure, nothing where it was not taken."""
    return f"{np.mean([row[name] for row in rows]):.2f}" if name in rows[0] else ""


def runs(results: dict[str, Rows]) -> str:
    """Return a row per run."""
    titles = ["run", "reward", "by seed", *MEASURES, "KL", *FITS, "rho"]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for name, rows in results.items():
        interval = mean_interval(by_prompt(rows))
        cells = [name, f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"]
        cells.append(" / ".join(f"{row['reward']:.2f}" for row in rows))
        cells += [mean_of(rows, measure) for measure in (*MEASURES.values(), "kl")]
        cells += [mean_of(rows, f"layer_03/{fit}") for fit in (*FITS.values(), "rho")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def differences(results: dict[str, Rows], against: list[str]) -> str:
    """Return, for every run that aligns states, its reward less that of others on the same prompts."""
    lines = [f"| run | {' | '.join(f'minus {name}' for name in against)} |", f"|---|{'---|' * len(against)}"]
    for name, rows in results.items():
        if not name.startswith(("Dual", "SCIT")):
            continue
        cells = [paired(rows, results[other]) for other in against]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(out: Path, against: list[str]) -> None:
    """Print both tables."""
    results = json.loads((out / "results.json").read_text())
    print(f"{runs(results)}\n\n{differences(results, [name for name in against if name in results])}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "rahf_synthetic")
    usual = ["base", "LoRRA, a 5", "HIR", "good and bad", "SFT on chosen"]
    parser.add_argument("--against", nargs="*", default=usual, metavar="RUN")
    given = parser.parse_args()
    main(given.out, given.against)
