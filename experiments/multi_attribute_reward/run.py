"""Does a reward model learn three attributes when no row has the labels of all? R^2 on held-out prompts, over rows.

python experiments/multi_attribute_reward/run.py [--seeds 3] [--rows 1000 4000 12000] [--out FOLDER]
A run that is there already is not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

from align.cli.main import main
from align.data.source import Report
from align.data.synthetic import Synthetic
from align.rewards.reward_model_scorer import RewardModelScorer
from align.world.gold_rewards import REWARDS
from align.world.preferences import Preferences

ROOT = Path(__file__).parents[2]
SCALES = {"helpfulness": [-6, 6], "verbosity": [0, 40], "harmlessness": [-4, 3]}
"""Label ranges, as the data's gold rewards have no scale of their own."""
RESPONSES = 2
MISSING = {"all labels": 0.0, "half of the labels": 1.0}
"""Share of the prompts whose responses have either helpfulness, or verbosity and harmlessness."""
Results = dict[str, dict[int, list[dict[str, float]]]]


def fit(run: Path, given: Any, *, seed: int, rows: int, missing: float) -> None:
    """Fit one reward model, unless it has been."""
    if (run / "model").exists():
        return
    words = [
        *("fit", "-c", f"{ROOT}/configs/method/reward_model_multi.yaml", "-c", f"{ROOT}/configs/data/synthetic.yaml"),
        *(
            "-c",
            f"{ROOT}/configs/trainer/cpu.yaml",
            "--model.backbone.path",
            str(given.base),
            "--seed_everything",
            str(seed),
        ),
        *(
            "--model.optimizer.learning_rate",
            given.rate,
            "--model.objective.lm_weight",
            given.lm_weight,
            "--model.objective.scales",
            json.dumps(SCALES),
        ),
        *("--data.preferences.seed", str(seed), "--data.preferences.size", str(rows // RESPONSES)),
        *("--data.preferences.missing", str(missing), "--trainer.default_root_dir", str(run)),
    ]
    print(f"$ align {' '.join(words)}", flush=True)
    if code := main(words):
        sys.exit(code)


def measure(run: Path, seed: int, held_out: int) -> dict[str, float]:
    """Return R^2 of every attribute on responses to held-out prompts, against all gold rewards."""
    path = run.with_suffix(".json")
    if not path.exists():
        examples = Synthetic(Preferences(held_out_size=held_out, seed=seed)).read("val", Report())
        oracle = RewardModelScorer(str(run / "model"), attributes=REWARDS)
        rows = [(e.messages, text) for e in examples for text in e.responses]
        points = oracle.score([messages for messages, _ in rows], [text for _, text in rows])
        gold = torch.tensor([score for e in examples for score in e.scores])
        assert oracle.rescaling is not None
        said = oracle.rescaling.labels(points)
        residual, spread = (gold - said).square().sum(0), (gold - gold.mean(0)).square().sum(0)
        path.write_text(json.dumps(dict(zip(REWARDS, (1 - residual / spread).tolist(), strict=True))))
    found: dict[str, float] = json.loads(path.read_text())
    return found


def plot(results: Results, path: Path) -> None:
    """Draw R^2 over rows, one panel per attribute."""
    figure, panels = plt.subplots(1, len(REWARDS), figsize=(10, 3), sharey=True)
    for attribute, panel in zip(REWARDS, panels, strict=True):
        for name, by_rows in results.items():
            means = [sum(r[attribute] for r in runs) / len(runs) for runs in by_rows.values()]
            panel.plot(list(by_rows), means, marker="o", label=name)
            for rows, runs in by_rows.items():
                panel.scatter([rows] * len(runs), [r[attribute] for r in runs], s=8, color="grey")
        panel.set(title=attribute, xlabel="rated responses", xscale="log", ylim=(0, 1))
    panels[0].set_ylabel("R² on held-out prompts")
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def run_all(given: Any) -> Results:
    """Return the results of every run: by what is labelled, by rows, one per seed."""
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.base.exists() and (code := main(["init", "world", "--out", str(given.base)])):
        sys.exit(code)
    results: Results = {}
    kinds = MISSING if given.complete else {"half of the labels": 1.0}
    for (name, missing), rows, seed in itertools.product(kinds.items(), given.rows, range(given.seeds)):
        run = given.out / f"rows-{rows}-missing-{missing:.0f}-{seed}"
        fit(run, given, seed=seed, rows=rows, missing=missing)
        found = measure(run, seed, given.held_out)
        results.setdefault(name, {}).setdefault(rows, []).append(found)
    (given.out / "results.json").write_text(json.dumps(results, indent=2))
    plot(results, given.out / "curves.png")
    return results


def show(results: Results) -> None:
    """Print a Markdown table, one value per seed."""
    print(f"\n| labels | rows | {' | '.join(REWARDS)} |\n|---|---|{'---|' * len(REWARDS)}")
    for name, by_rows in results.items():
        for rows, runs in by_rows.items():
            print(f"| {name} | {rows} | " + " | ".join(" / ".join(f"{r[a]:.3f}" for r in runs) for a in REWARDS), "|")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 4000, 12000])
    parser.add_argument("--rate", default="1e-3")
    parser.add_argument("--lm_weight", default="0.1", help="weight of the language loss")
    parser.add_argument("--complete", action="store_true", help="also train on rows with all labels, for comparison")
    parser.add_argument("--held_out", type=int, default=500)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "multi_attribute_reward")
    parser.add_argument("--base", type=Path, default=ROOT / "runs" / "world" / "base")
    arguments = parser.parse_args()
    began = time.time()
    show(run_all(arguments))
    print(f"{time.time() - began:.0f} s")
