"""PRO in the synthetic world, lists of 2 to 5, with and without its SFT term, against best-of-n fine-tuning.

python experiments/pro_synthetic/run.py [--seeds 3] [--lengths 2 3 4 5] [--sequences 2400 | --lists N] [--out FOLDER]
A run that is there already is not run again. Every method takes the same steps on the same lists; best-of-n learns from
one response of each.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.evaluation.gold_evaluation import evaluate_gold
from align.world.prompts import held_out_prompts
from align.world.universe import World

ROOT = Path(__file__).parents[2]
METHODS = {
    "pro": "PRO",
    "pro_no_sft": "PRO without SFT",
    "bon_sft": "best of n, SFT",
    "pro_no_temperature": "PRO without temperature",
    "rrhf": "RRHF",
}
REWARD = '{"helpfulness": 1.0, "verbosity": -0.05, "harmlessness": 1.0}'
HELD_OUT = 200
SEQUENCES_PER_STEP = 64
Results = dict[str, list[dict[str, Any]]]


def align(*words: str) -> None:
    """Run one command of the program and stop where it fails."""
    print(f"$ align {' '.join(words)}", flush=True)
    if code := main(list(words)):
        sys.exit(code)


def fit(run: Path, base: Path, method: str, *, seed: int, length: int, lists: int, rate: str) -> None:
    """Fit one method on lists of one length, unless it has been."""
    if (run / "model").exists():
        return
    single = ("--data.view.max_responses", "1") if method == "bon_sft" else ()
    align(
        *("fit", "-c", f"{ROOT}/configs/method/{method}.yaml", "-c", f"{ROOT}/configs/data/synthetic.yaml"),
        *("-c", f"{ROOT}/configs/trainer/cpu.yaml", "--model.backbone.path", str(base), "--seed_everything", str(seed)),
        *("--data.preferences.seed", str(seed), "--data.preferences.responses", str(length)),
        *("--data.preferences.size", str(lists), "--data.preferences.held_out_size", str(HELD_OUT)),
        *("--data.batching.groups", str(SEQUENCES_PER_STEP // length)),
        *("--data.view", "ScoredLists", "--data.view.attributes", REWARD, *single),
        *("--model.optimizer.learning_rate", rate, "--model.optimizer.lr_scheduler_type", "cosine"),
        *("--model.optimizer.weight_decay", "0", "--trainer.max_epochs", "1", "--trainer.default_root_dir", str(run)),
    )


def cached(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result kept in a file, computing it first where there is none."""
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_text(json.dumps(compute()))
        part.rename(path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def measure(model: Path, base: Path, world: World, prompts: int) -> dict[str, Any]:
    """Evaluate a policy on held-out prompts, with the last validation of its run where it had one."""
    policy, reference = (AutoModelForCausalLM.from_pretrained(p) for p in (model, base))
    held_out = held_out_prompts(world, prompts, prompts * 3 // 8)
    report = evaluate_gold(policy, AutoTokenizer.from_pretrained(base), world, held_out, base=reference)
    events = EventAccumulator(str(model.parent))
    events.Reload()
    known = set(events.Tags()["scalars"])
    names = {"accuracy": "val/rewards/accuracies", "tau": "val/pro/kendall_tau"}
    ranking = {name: events.Scalars(tag)[-1].value for name, tag in names.items() if tag in known}
    return {**report.as_dict(), "low": report.reward.low, "high": report.reward.high, "best": report.best, **ranking}


def run_all(out: Path, base: Path, options: argparse.Namespace) -> Results:
    """Return the results of every run, one per seed."""
    out.mkdir(parents=True, exist_ok=True)
    if not base.exists():
        align("init", "world", "--out", str(base))
    world = World()
    results: Results = {"base": [cached(out / "base.json", lambda: measure(base, base, world, options.prompts))]}
    for seed in range(options.seeds):
        for length in options.lengths:
            for method in options.methods:
                run, lists = out / f"{method}-{length}-{seed}", options.lists or options.sequences // length
                fit(run, base, method, seed=seed, length=length, lists=lists, rate=options.rate)
                found = cached(
                    out / f"{run.name}.json",
                    lambda: measure(run / "model", base, world, options.prompts),  # noqa: B023
                )
                results.setdefault(f"{METHODS[method]}, n={length}", []).append(found)
        (out / "results.json").write_text(json.dumps(results, indent=2))
    return results


def show(results: Results) -> None:
    """Print a Markdown table, one value per seed."""
    start = results["base"][0]
    columns = (
        "reward",
        "helpfulness",
        "verbosity",
        "refusal_rate",
        "true_facts",
        "well_formed",
        "kl",
        "accuracy",
        "tau",
    )
    print(f"\n| policy | share of optimum | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")
    for name, rows in results.items():
        shares = [(r["reward"] - start["reward"]) / (r["best"] - start["reward"]) for r in rows]
        cells = [" / ".join(f"{r[c]:.2f}" if c in r else "-" for r in rows) for c in columns]
        print(f"| {name} | {' / '.join(f'{s:.2f}' for s in shares)} | {' | '.join(cells)} |")
    print(f"\nbase reward {start['reward']:.2f} [{start['low']:.2f}, {start['high']:.2f}], best {start['best']:.2f}")


def draw(results: Results, options: argparse.Namespace, path: Path) -> None:
    """Plot gold reward over list length: means over seeds with their range."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for method in options.methods:
        rows = [[r["reward"] for r in results[f"{METHODS[method]}, n={n}"]] for n in options.lengths]
        means = [sum(r) / len(r) for r in rows]
        low = [m - min(r) for m, r in zip(means, rows, strict=True)]
        high = [max(r) - m for m, r in zip(means, rows, strict=True)]
        axes.errorbar(options.lengths, means, (low, high), marker="o", capsize=3, label=METHODS[method])
    axes.axhline(results["base"][0]["reward"], color="grey", linestyle=":", label="base")
    axes.set(xlabel="responses per list", ylabel="gold reward, held-out prompts", xticks=options.lengths)
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2, 3, 4, 5])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["pro", "pro_no_sft", "bon_sft"])
    parser.add_argument("--sequences", type=int, default=2400, help="responses in a training set: lists are shared out")
    parser.add_argument("--lists", type=int, help="lists in a training set, the same number at every length")
    parser.add_argument(
        "--prompts", type=int, default=96, help="harmless held-out prompts; harmful ones are 3/8 of that"
    )
    parser.add_argument("--rate", default="3e-4", help="peak learning rate")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "pro_synthetic")
    parser.add_argument("--base", type=Path, default=ROOT / "runs" / "world" / "base")
    given = parser.parse_args()
    began = time.time()
    found = run_all(given.out, given.base, given)
    show(found)
    draw(found, given, given.out / "reward.png")
    print(f"{time.time() - began:.0f} s")
