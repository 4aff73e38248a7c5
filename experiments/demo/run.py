"""The demo: a base model, a reward model and DPO in the synthetic world, and a report on what they reach.

`make demo` runs it on a fresh machine. The base model is kept under runs/world; the rest is written to runs/demo.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from report import Demo, write
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.data.source import Report
from align.data.synthetic import Synthetic
from align.evaluation.gold_evaluation import evaluate_gold
from align.evaluation.run_reader import read_series
from align.world.gold_rewards import Gold, User
from align.world.optimum import pareto_front
from align.world.preferences import Preferences
from align.world.prompts import held_out_prompts
from align.world.universe import World

ROOT = Path(__file__).parents[2]
RUN, BASE = ROOT / "runs" / "demo", ROOT / "runs" / "world" / "base"
CONFIGS = ROOT / "configs"
PREFERENCES = Preferences(held_out_size=2000)
COMMANDS: list[str] = []


def align(*words: str) -> None:
    """Run one command of the program and stop where it fails."""
    COMMANDS.append("align " + " ".join(words).replace(f"{ROOT}/", ""))
    print(f"\n$ {COMMANDS[-1]}", flush=True)
    if code := main(list(words)):
        sys.exit(code)


def fit(method: str, rate: str, *more: str) -> None:
    """Fit a method on the pairs of the synthetic world, from the base."""
    files = [f"method/{method}", "data/synthetic", "trainer/cpu"]
    align(
        *("fit", *(word for name in files for word in ("-c", f"{CONFIGS}/{name}.yaml"))),
        *("--model.backbone.path", str(BASE), "--model.optimizer.learning_rate", rate),
        *("--trainer.default_root_dir", str(RUN / method), *more),
    )


def reward_gaps(world: World) -> list[tuple[float, float]]:
    """Return, of each held-out pair, the reward model's and the gold reward's gap between chosen and rejected."""
    align(
        *(
            "predict",
            "-c",
            f"{RUN}/reward_model/config.yaml",
            "--trainer.default_root_dir",
            f"{RUN}/reward_model-scores",
        ),
        *("--ckpt_path", f"{RUN}/reward_model/checkpoints/last.ckpt"),
    )
    scores: dict[str, dict[int, float]] = {}
    for line in (RUN / "reward_model-scores" / "predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        scores.setdefault(row["id"], {})[row["candidate"]] = row["reward"]
    gaps = []
    for example in Synthetic(PREFERENCES, world).read("val", Report()):
        chosen, rejected = (User().reward(Gold(*example.scores[i])) for (i,) in example.ranking)
        gaps.append((scores[example.id][0] - scores[example.id][1], chosen - rejected))
    return gaps


def run() -> None:
    """Run the demo, write the report, and print the table."""
    began = time.time()
    shutil.rmtree(RUN, ignore_errors=True)
    torch.set_num_threads(2)
    world = World()
    align("init", "world", "--out", str(BASE))
    held_out = ("--data.preferences.held_out_size", str(PREFERENCES.held_out_size))
    fit("reward_model", "6e-4", *held_out, "--data.batching.groups", "44")
    callback = ("--trainer.callbacks+", "align.callbacks.gold.GoldEvaluation", "--trainer.callbacks.harmless", "48")
    often = (*callback, "--trainer.callbacks.harmful", "24", "--trainer.val_check_interval", "0.25")
    fit("dpo", "2e-5", *often)
    gaps = reward_gaps(world)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    models: dict[str, Any] = {
        name: AutoModelForCausalLM.from_pretrained(path)
        for name, path in (("base", BASE), ("DPO", RUN / "dpo" / "model"))
    }
    prompts = held_out_prompts(world, 160, 60)
    measured = RUN / "gold.json"
    align(
        *("benchmark", "world", "--models.base", str(BASE), "--models.DPO", str(RUN / "dpo" / "model")),
        *("--out", str(measured)),
    )
    print("\nsampling on held-out prompts ...", flush=True)
    demo = Demo(
        world=world,
        commands=COMMANDS,
        reward_model=read_series(RUN / "reward_model"),
        dpo=read_series(RUN / "dpo"),
        gaps=gaps,
        bayes=PREFERENCES.bayes_accuracy(gold for _, gold in gaps),
        front=pareto_front(world, prompts),
        sampled={n: evaluate_gold(m, tokenizer, world, prompts, base=models["base"]) for n, m in models.items()},
        measured=json.loads(measured.read_text())["models"],
        seconds=time.time() - began,
    )
    page = RUN / "report.html"
    print("\n" + write(demo, page))
    print(f"\n{time.time() - began:.0f} s in all; the report: {page.relative_to(ROOT)}; tensorboard --logdir runs/demo")


if __name__ == "__main__":
    run()
