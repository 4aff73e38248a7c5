"""Learning from own samples against learning from the data's responses: DPO and PRO in the synthetic world, over seeds.

python experiments/on_policy_synthetic/run.py [--seeds 3] [--out runs/on_policy_synthetic] [--base runs/world/base]
A run that is there already is not run again; one that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.evaluation.gold_evaluation import evaluate_gold
from align.world.prompts import held_out_prompts
from align.world.universe import World

ROOT = Path(__file__).parents[2]
SIZE, ROUNDS = 2400, 4
"""Prompts of a run, one epoch or as many rounds on a part each: every method sees as many pairs or lists."""
CLEAN = ["--data.preferences.temperature", "0.05"]
OWN = ["--trainer.max_epochs", str(ROUNDS), "--trainer.callbacks.prompts", str(SIZE // ROUNDS)]
DPO = ["--model.optimizer.learning_rate", "5e-5"]
PRO = ["--model.optimizer.learning_rate", "3e-4", "--data.preferences.responses", "2"]
METHODS = {
    "DPO, offline": ("dpo", None, [*DPO, *CLEAN]),
    "DPO, on-policy, 2 samples": ("dpo", "on_policy_dpo", [*DPO, *CLEAN, *OWN]),
    "DPO, on-policy, best and worst of 8": ("dpo", "iterative_dpo", [*DPO, *CLEAN, *OWN]),
    "PRO": ("pro", None, PRO),
    "PRO, bootstrapped": ("pro", "pro_bootstrap", [*PRO, *OWN]),
}
COLUMNS = ("reward", "helpfulness", "harmlessness", "verbosity", "well_formed", "kl")


def fit(run: Path, base: Path, seed: int, name: str) -> None:
    """Fit one method, unless it has been."""
    method, callback, more = METHODS[name]
    files = [f"method/{method}", "data/synthetic", *([f"callbacks/{callback}"] if callback else []), "trainer/cpu"]
    if (run / "finished.json").exists():
        return
    words = [
        *("fit", *(word for file in files for word in ("-c", f"{ROOT}/configs/{file}.yaml"))),
        *("--model.backbone.path", str(base), "--seed_everything", str(seed), "--data.preferences.seed", str(seed)),
        *("--data.preferences.size", str(SIZE), "--data.preferences.held_out_size", "40", *more),
        *("--trainer.limit_val_batches", "0", "--trainer.default_root_dir", str(run)),
    ]
    print(f"$ align {' '.join(words)}", flush=True)
    if code := main(words):
        sys.exit(code)


def measure(model: Path, base: Path, path: Path) -> dict[str, float]:
    """Return the gold rewards of samples on held-out prompts at temperature 1."""
    if not path.exists():
        policy, reference = (AutoModelForCausalLM.from_pretrained(p) for p in (model, base))
        prompts = held_out_prompts(World(), 120, 40)
        report = evaluate_gold(policy, AutoTokenizer.from_pretrained(base), World(), prompts, base=reference)
        ends = {"low": report.reward.low, "high": report.reward.high}
        path.write_text(json.dumps({**report.as_dict(), **ends}))
    found: dict[str, float] = json.loads(path.read_text())
    return found


def run_all(out: Path, base: Path, seeds: int) -> None:
    """Run everything and print a table, one value per seed."""
    if not base.exists() and (code := main(["init", "world", "--out", str(base)])):
        sys.exit(code)
    out.mkdir(parents=True, exist_ok=True)
    results = {"base": [measure(base, base, out / "base.json")]}
    for seed in range(seeds):
        for place, name in enumerate(METHODS):
            run = out / f"{seed}-{place}"
            fit(run, base, seed, name)
            results.setdefault(name, []).append(measure(run / "model", base, run.with_suffix(".json")))
    print(f"\n| policy | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for name, rows in results.items():
        cells = [" / ".join(f"{row[column]:.2f}" for row in rows) for column in COLUMNS]
        print(f"| {name} | {' | '.join(cells)} |")
    (out / "results.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "on_policy_synthetic")
    parser.add_argument("--base", type=Path, default=ROOT / "runs" / "world" / "base")
    given = parser.parse_args()
    began = time.time()
    run_all(given.out, given.base, given.seeds)
    print(f"{time.time() - began:.0f} s")
