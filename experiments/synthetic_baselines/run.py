"""What reward model, SFT and DPO reach in the synthetic world, over seeds: runs everything and prints the table.

python experiments/synthetic_baselines/run.py [--seeds 3] [--out runs/synthetic_baselines]
A run that is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.data.source import Report
from align.data.synthetic import Synthetic
from align.evaluation.gold_evaluation import GREEDY, evaluate_gold
from align.world.gold_rewards import Gold, User
from align.world.preferences import Preferences
from align.world.prompts import held_out_prompts
from align.world.universe import World

ROOT = Path(__file__).parents[2]
PAIRS = (500, 2000, 8000, 16000)
HELD_OUT = 2000
POLICIES = {
    "SFT on chosen": ("sft", "3e-4", "0.0"),
    "DPO, 30 % of labels flipped": ("dpo", "5e-5", "0.3"),
    "DPO": ("dpo", "5e-5", "0.0"),
}


def align(*words: str) -> None:
    """Run one command of the program and stop where it fails."""
    print(f"$ align {' '.join(words)}", flush=True)
    if code := main(list(words)):
        sys.exit(code)


def fit(run: Path, base: Path, seed: int, method: str, rate: str, *more: str) -> None:
    """Fit one method, unless it has been."""
    if (run / "model").exists():
        return
    align(
        *("fit", "-c", f"{ROOT}/configs/method/{method}.yaml", "-c", f"{ROOT}/configs/data/synthetic.yaml"),
        *("-c", f"{ROOT}/configs/trainer/cpu.yaml", "--model.backbone.path", str(base), "--seed_everything", str(seed)),
        *("--model.optimizer.learning_rate", rate, "--data.preferences.seed", str(seed)),
        *("--trainer.default_root_dir", str(run), *more),
    )


def cached(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result kept in a file, computing it first where there is none."""
    if not path.exists():
        path.write_text(json.dumps(compute()))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def gold_of(model: Path, base: Path, world: World) -> dict[str, Any]:
    """Evaluate a policy on held-out prompts, sampled and greedy, and on held-out entities."""
    policy, reference = (AutoModelForCausalLM.from_pretrained(p) for p in (model, base))
    tokenizer = AutoTokenizer.from_pretrained(base)
    prompts, entities = held_out_prompts(world, 160, 60), held_out_prompts(world, 160, 60, split="test")
    drawn = evaluate_gold(policy, tokenizer, world, prompts, base=reference)
    greedy = evaluate_gold(policy, tokenizer, world, prompts, generation=GREEDY)
    elsewhere = evaluate_gold(policy, tokenizer, world, entities)
    extra = {"low": drawn.reward.low, "high": drawn.reward.high, "best": drawn.best}
    return {**drawn.as_dict(), **extra, "greedy": greedy.reward.value, "held_out_entities": elsewhere.reward.value}


def reward_model(run: Path, base: Path, seed: int, pairs: int) -> dict[str, Any]:
    """Train a reward model and return its held-out accuracy."""
    more = ("--data.preferences.size", str(pairs), "--data.preferences.held_out_size", str(HELD_OUT))
    fit(run, base, seed, "reward_model", "6e-4", *more, "--data.batching.groups", "44")
    events = EventAccumulator(str(run))
    events.Reload()
    return {"accuracy": events.Scalars("val/accuracy")[-1].value, "bayes": bayes(seed)}


def bayes(seed: int) -> float:
    """Return the Bayes accuracy of the labels of the validation split."""
    preferences = Preferences(held_out_size=HELD_OUT, seed=seed)
    golds = [[User().reward(Gold(*s)) for s in e.scores] for e in Synthetic(preferences).read("val", Report())]
    return preferences.bayes_accuracy(a - b for a, b in golds)


def run_all(out: Path, base: Path, seeds: int) -> dict[str, list[dict[str, Any]]]:
    """Return the results of every run, one per seed."""
    out.mkdir(parents=True, exist_ok=True)
    if not base.exists():
        align("init", "world", "--out", str(base))
    world = World()
    results = {"base": [cached(out / "base.json", lambda: gold_of(base, base, world))]}
    for seed in range(seeds):
        for pairs in PAIRS:
            run = out / f"rm-{pairs}-{seed}"
            found = cached(out / f"{run.name}.json", lambda: reward_model(run, base, seed, pairs))  # noqa: B023
            results.setdefault(f"RM, {pairs} pairs", []).append(found)
        for name, (method, rate, noise) in POLICIES.items():
            run = out / f"{method}-{noise}-{seed}"
            fit(run, base, seed, method, rate, "--data.preferences.label_noise", noise)
            found = cached(out / f"{run.name}.json", lambda: gold_of(run / "model", base, world))  # noqa: B023
            results.setdefault(name, []).append(found)
    (out / "results.json").write_text(json.dumps(results, indent=2))
    return results


def show(results: dict[str, list[dict[str, Any]]]) -> None:
    """Print two Markdown tables, one value per seed."""

    def each(rows: list[dict[str, Any]], key: str) -> str:
        return " / ".join(f"{row[key]:.2f}" for row in rows)

    print("\n| pairs | held-out accuracy | Bayes accuracy |\n|---|---|---|")
    for name, rows in results.items():
        if "accuracy" in rows[0]:
            print(
                f"| {name} | " + " | ".join(" / ".join(f"{r[k]:.3f}" for r in rows) for k in ("accuracy", "bayes")), "|"
            )
    columns = ("reward", "greedy", "held_out_entities", "verbosity", "refusal_rate", "true_facts", "well_formed", "kl")
    print(f"\n| policy | share of optimum | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")
    start = results["base"][0]
    for name, rows in results.items():
        if "reward" in rows[0]:
            shares = [{"share": (r["reward"] - start["reward"]) / (r["best"] - start["reward"])} for r in rows]
            print(f"| {name} | {each(shares, 'share')} | " + " | ".join(each(rows, c) for c in columns), "|")
    print(f"\nbase reward {start['reward']:.2f} [{start['low']:.2f}, {start['high']:.2f}], best {start['best']:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "synthetic_baselines")
    parser.add_argument("--base", type=Path, default=ROOT / "runs" / "world" / "base")
    given = parser.parse_args()
    began = time.time()
    show(run_all(given.out, given.base, given.seeds))
    print(f"{time.time() - began:.0f} s")
