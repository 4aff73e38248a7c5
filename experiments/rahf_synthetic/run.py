"""What RAHF and its baselines reach in the synthetic world, over seeds: runs and measures everything.

python experiments/rahf_synthetic/run.py [--seeds 3] [--pairs 4000] [--only NAME ...] [--out runs/rahf_synthetic]
A run that is there already is not run again. `table.py` prints the results, `plot.py` draws them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.evaluation.gold_evaluation import evaluate_gold
from align.world.gold_rewards import SENTENCE, read, request_of
from align.world.language import TAGS
from align.world.prompts import held_out_prompts
from align.world.universe import Prompt, World
from runs import RUNS, TEXTS

ROOT = Path(__file__).parents[2]
METHODS = ROOT / "configs" / "method"


def align(*words: str) -> None:
    """Run one command of the program and stop where it fails."""
    print(f"$ align {' '.join(words)}", flush=True)
    if code := main(list(words)):
        sys.exit(code)


def folder(out: Path, name: str, seed: int) -> Path:
    """Return the run folder of a run and seed."""
    return out / f"{name.lower().replace(', ', '-').replace(' ', '_')}-{seed}"


def fit(out: Path, base: Path, name: str, seed: int, pairs: int) -> Path:
    """Fit one run, and before it the ones it needs, unless they have been; return its folder."""
    run, place = RUNS[name], folder(out, name, seed)
    if (place / "finished.json").exists():
        return place
    more: list[str] = []
    if run.after:
        more += ["--model.stage1", str(fit(out, base, run.after, seed, pairs) / "model")]
    start = fit(out, base, run.backbone, seed, pairs) / "model" if run.backbone else base
    align(
        *("fit", "-c", f"{METHODS}/{run.method}.yaml", "-c", f"{ROOT}/configs/data/synthetic.yaml"),
        *("-c", f"{ROOT}/configs/trainer/cpu.yaml", "--model.backbone.path", str(start)),
        *("--seed_everything", str(seed), "--model.optimizer.learning_rate", run.rate),
        *("--data.preferences.seed", str(seed), "--data.preferences.size", str(pairs)),
        *("--trainer.max_epochs", "1", "--trainer.max_steps", "-1"),
        *("--trainer.default_root_dir", str(place), *run.words, *more),
    )
    return place


def load(place: Path, base: Path) -> Any:
    """Return a policy: a full folder, or an adapter on the base it names; of two adapters the good one."""
    model = place / "model"
    if (model / "good").exists():
        model = model / "good"
    if (model / "adapter_config.json").exists():
        under = json.loads((model / "adapter_config.json").read_text())["base_model_name_or_path"]
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(under or base), str(model))
    return AutoModelForCausalLM.from_pretrained(model)


def asked(prompts: Sequence[Prompt], how: str) -> list[Prompt]:
    """Return prompts as a policy is given them."""
    if how in ("positive", "negative"):
        return [TEXTS.apply(p, how) for p in prompts]  # type: ignore[arg-type]
    if how == "good":
        return [(*p[:-1], p[-1]._replace(content=f"{p[-1].content}\n\n{TAGS[0]}")) for p in prompts]
    return list(prompts)


def gold_of(policy: Any, base: Path, how: str) -> dict[str, Any]:
    """Evaluate a policy on held-out prompts."""
    world, tokenizer = World(), AutoTokenizer.from_pretrained(base)
    reference = AutoModelForCausalLM.from_pretrained(base)
    prompts = held_out_prompts(world, 160, 60)
    drawn = evaluate_gold(policy, tokenizer, world, prompts, base=reference, asked=asked(prompts, how))
    extra = {"low": drawn.reward.low, "high": drawn.reward.high, "best": drawn.best}
    readings = [read(world, request_of(world, a.prompt).entity, a.text) for a in drawn.answers]
    sentences = sum(len(SENTENCE.findall(a.text)) for a in drawn.answers)
    extra["readable"] = 1 - sum(r.unreadable for r in readings) / max(sentences, 1)
    return {**drawn.as_dict(), **extra, "rewards": [a.reward for a in drawn.answers]}


def last_scalars(place: Path) -> dict[str, float]:
    """Return the last value of every training metric of a second stage that tells of shift and fit."""
    events = EventAccumulator(str(place))
    events.Reload()
    tags = [t for t in events.Tags()["scalars"] if t.startswith("train/layer_") or t in ("train/shift", "train/margin")]
    return {tag.removeprefix("train/"): events.Scalars(tag)[-1].value for tag in tags}


def cached(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result kept in a file, computing it first where there is none."""
    if not path.exists():
        path.write_text(json.dumps(compute()))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def run_all(out: Path, base: Path, seeds: int, pairs: int, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Fit and measure what is not there yet, and return the results of every run, one per seed."""
    out.mkdir(parents=True, exist_ok=True)
    if not base.exists():
        align("init", "world", "--out", str(base))
    start = AutoModelForCausalLM.from_pretrained
    cached(out / "base.json", lambda: gold_of(start(base), base, ""))
    for seed, name in itertools.product(range(seeds), names):
        place = fit(out, base, name, seed, pairs)

        def measure(place: Path = place, name: str = name) -> dict[str, Any]:
            return {**gold_of(load(place, base), base, RUNS[name].asked), **last_scalars(place)}

        cached(out / f"{place.name}.json", measure)
    return collected(out)


def collected(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the results that are there, by run, with the seed of each."""
    found = {"base": [{"seed": None, **json.loads((out / "base.json").read_text())}]}
    for name in RUNS:
        paths = sorted(out.glob(f"{folder(out, name, 0).name[:-1]}[0-9].json"))
        if paths:
            found[name] = [{"seed": int(path.stem[-1]), **json.loads(path.read_text())} for path in paths]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--only", nargs="*", choices=list(RUNS), default=list(RUNS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "rahf_synthetic")
    parser.add_argument("--base", type=Path, default=ROOT / "runs" / "world" / "base")
    given = parser.parse_args()
    began = time.time()
    results = run_all(given.out, given.base, given.seeds, given.pairs, given.only)
    (given.out / "results.json").write_text(json.dumps(results, indent=2))
    print(f"{given.out}/results.json written after {time.time() - began:.0f} s: table.py prints it, plot.py draws it")
