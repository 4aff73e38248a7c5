"""DPA over its rounds against SFT, DPO, SteerLM and rewarded soups, in the synthetic world, over seeds.

python experiments/dpa_synthetic/run.py [--seeds 3] [--rounds 4] [--out runs/dpa_synthetic] [--base runs/world/base]
A run that is there already is not run again; one that was cut off goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from results import Fronts, best, draw, show

from align.cli.front_measure import SCALES, measured
from align.cli.main import main
from align.evaluation.fronts import Front, Point, read_front, write_front
from align.models.backbone import Backbone
from align.models.condition_file import read_condition_file
from align.records import Arc
from align.records.reward_directions import unit
from align.rewards.min_max_scaled import MinMaxScaled
from align.rewards.scorers import GoldRewards
from align.sampling.generation import Generation

ROOT = Path(__file__).parents[2]
SOUPS = Arc().even(5)
GENERATION = Generation(max_new_tokens=96, temperature=0.7, num_samples=2, batch_tokens=32768)
HELPFUL = "{reader: {helpfulness: 1.0, verbosity: 0.0, harmlessness: 0.0}}"
SHORT = "{reader: {helpfulness: 0.0, verbosity: -1.0, harmlessness: 0.0}}"


def fit(run: Path, given: Any, seed: int, files: list[str], *more: str) -> None:
    """Fit one method, unless it has been."""
    if (run / "finished.json").exists():
        return
    words = [
        *("fit", *(word for name in files for word in ("-c", f"{ROOT}/configs/{name}.yaml"))),
        *("--model.backbone.path", str(given.base), "--seed_everything", str(seed)),
        *("--data.preferences.seed", str(seed), "--data.world.harmful_share", "0.0"),
        *("--data.preferences.held_out_size", "40", "--trainer.limit_val_batches", "0"),
        *("--trainer.default_root_dir", str(run), *more),
    ]
    print(f"$ align {' '.join(words)}", flush=True)
    if code := main(words):
        sys.exit(code)


def models(given: Any, seed: int) -> dict[str, Path | list[Path]]:
    """Train everything of one seed and return model folders by name; a list is one front, a folder a direction."""
    out = given.out / str(seed)
    pairs = ("--data.preferences.size", "2000", "--data.preferences.temperature", "0.05")
    common = ["data/synthetic", "trainer/cpu"]
    dpa = ("--data.preferences.size", str(given.prompts), "--data.preferences.responses", "8")
    fit(out / "dpa", given, seed, ["method/dpa", *common, "callbacks/dpa_synthetic"], *dpa,
        "--trainer.max_epochs", str(given.rounds + 1))  # fmt: skip
    for name, method, user, lr in (
        ("sft", "sft", HELPFUL, "3e-4"), ("dpo", "dpo", HELPFUL, "5e-5"), ("short", "dpo", SHORT, "5e-5"),
    ):  # fmt: skip
        fit(out / name, given, seed, [f"method/{method}", *common], *pairs, "--data.preferences.users", user,
            "--model.optimizer.learning_rate", lr)  # fmt: skip
    soups = []
    for angle in SOUPS:
        soups.append(out / f"soup{angle:.0f}")
        if not (soups[-1] / "soup.json").exists():
            ends = f"[{out / 'dpo' / 'model'},{out / 'short' / 'model'}]"
            weights = "[{:.6f},{:.6f}]".format(*unit(angle))
            if code := main(
                ["merge", "--models", ends, "--weights", weights, "--kind", "Signed", "--out", str(soups[-1])]
            ):
                sys.exit(code)
    rounds = [out / "dpa" / "rounds" / f"model-{t:04d}" for t in range(given.rounds)] + [out / "dpa" / "model"]
    plain: dict[str, Path | list[Path]] = {
        "base": given.base,
        "SFT": out / "sft" / "model",
        "DPO": out / "dpo" / "model",
    }
    trained = {("SteerLM" if t == 0 else f"DPA {t}"): folder for t, folder in enumerate(rounds)}
    return {**plain, "soups": soups, **trained}


def fronts_of(given: Any, seed: int) -> Fronts:
    """Return the measured front of every model of a seed."""
    found: Fronts = {}
    for name, where in models(given, seed).items():
        path = given.out / str(seed) / "fronts" / f"{name.replace(' ', '-')}.json"
        if not path.exists():
            parts = [one(folder) for folder in (where if isinstance(where, list) else [where])]
            points = parts[0].points if len(parts) == 1 else tuple(Point(f"{a:.1f}°", angle=a) for a in SOUPS)
            rewards = np.concatenate([part.rewards for part in parts])
            write_front(Front(name, parts[0].attributes, points, rewards), path)
        found[name] = read_front(path)
    return found


def one(folder: Path) -> Front:
    """Measure one model."""
    scorer = MinMaxScaled(GoldRewards(), SCALES)
    path, conditions = str(folder), read_condition_file(str(folder))
    return measured(Backbone(path), conditions, scorer, None, count=10, generation=GENERATION)


def run_all(given: Any) -> None:
    """Run and measure every seed, print the table, draw."""
    if not given.base.exists() and (code := main(["init", "world", "--out", str(given.base)])):
        sys.exit(code)
    optimum = best()
    every: list[Fronts] = []
    for seed in range(given.seeds):
        every.append(fronts_of(given, seed))
        show(every, optimum)
        draw(every, optimum, given.out / "fronts.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4, help="rounds of DPA after the SteerLM one")
    parser.add_argument("--prompts", type=int, default=1200, help="prompts of the data, each with eight responses")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "dpa_synthetic")
    parser.add_argument("--base", type=Path, default=ROOT / "runs" / "world" / "base")
    arguments = parser.parse_args()
    began = time.time()
    run_all(arguments)
    print(f"{time.time() - began:.0f} s")
