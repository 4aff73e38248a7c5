"""The same small search of a learning rate for every arm: trained on a part of the folds but 0, tried on the rest.

The rate whose held-out accuracy is the highest is written to ARM.yaml. What is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import yaml

from align.evaluation.run_log import FINISHED

HERE = Path(__file__).parent
ARMS = yaml.safe_load((HERE / "rates.yaml").read_text())
TUNING = ("--data.splits.fold", "0", "--data.splits.val_fraction", "0.3")
"""The fold that is held out is not looked at; 30 % of the other prompts say which rate is best."""
SHOWN = {"rm": "reward", "dpo": "implicit", "kto": "implicit", "rahf": "implicit"}
"""The reward an arm is judged by; `per_token` for all others."""


def main() -> None:
    """Write the rate of every arm, and what was tried."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("given", type=Path)
    parser.add_argument("model")
    parser.add_argument("--size", choices=["small", "chat"], default="small")
    parser.add_argument("--tried", type=int, choices=[1, 3], default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", default="", help="options of data that are pairs")
    parser.add_argument("--lists", default="", help="options of data that are lists")
    parser.add_argument("--arms", nargs="*", help="these alone")
    options, found = parser.parse_args(), {}
    options.out.mkdir(parents=True, exist_ok=True)
    for arm, settings in ARMS.items():
        if options.arms and arm not in options.arms:
            continue
        rates = settings["rates"][options.size]
        tried = {} if len(rates) == 1 or options.tried == 1 else accuracies(arm, rates, options)
        best = max(tried, key=tried.__getitem__) if tried else rates[len(rates) // 2]
        found[arm] = {"rate": best, "searched": bool(tried), "accuracy": tried}
        write_rate(options.out / f"{arm}.yaml", best)
        print(f"{arm}: {best:g} {f'of {tried}' if tried else 'fixed, not searched'}", flush=True)
    (options.out / "results.json").write_text(json.dumps(found, indent=1))


def accuracies(arm: str, rates: list[float], options: argparse.Namespace) -> dict[float, float]:
    """Return the accuracy of an arm on the tuning split, by its rate."""
    of = ARMS[arm].get("set", "hh")
    data = ["--data.path", f"{options.given / of}.jsonl", *TUNING]
    data += (options.pairs if of == "hh" else options.lists).split()
    start, folder = options.out / f"start-{of}", options.out / arm
    fit("start", start, [*data, "--model.backbone.path", options.model], options)
    words = [*data, "--model.backbone.path", f"{start}/model"]
    if "stage1" in ARMS[arm]:
        stage = options.out / ARMS[arm]["stage1"]
        fit(ARMS[arm]["stage1"], stage, words, options)
        words += ["--model.stage1", f"{stage}/model"]
    for rate in rates:
        fit(arm, folder / f"{rate:g}", words, options, rate)
    kind, reference = ("rewards", []) if arm == "rm" else ("policies", ["--reference", f"{start}/model"])
    names = {rate: f"rate{n}" for n, rate in enumerate(rates)}
    models = [word for rate, name in names.items() for word in (f"--{kind}.{name}", f"{folder}/{rate:g}/model")]
    measure = ["benchmark", "preferences", "-c", f"{HERE}/data.yaml", *(data[:6] if arm == "rm" else data)]
    align(*measure, "--split", "val", *models, *reference, "--out", str(folder))
    measured = json.loads((folder / "results.json").read_text())["models"]
    shown = SHOWN.get(arm, "per_token")
    return {rate: measured[f"{name}.{shown}"]["accuracy"]["value"] for rate, name in names.items()}


def fit(arm: str, folder: Path, words: list[str], options: argparse.Namespace, rate: float | None = None) -> None:
    """Train an arm, at its only rate if none is given, unless it has been."""
    if (folder / FINISHED).exists():
        return
    settings = ARMS[arm]
    configs = [word for name in settings["configs"] for word in ("-c", place(name))]
    own = settings["rates"][options.size][0] if rate is None else rate
    groups = ["--data.batching.groups", str(settings["groups"])] if "groups" in settings else []
    words = [*words, *groups, "--model.optimizer.learning_rate", f"{own:g}", "--trainer.default_root_dir", str(folder)]
    align("fit", *configs, "-c", options.device, *words)


def place(name: str) -> str:
    """Return a file of this study, or the name of a shipped config."""
    own = HERE / f"{name}.yaml"
    return str(own) if own.exists() else name


def align(*words: str) -> None:
    """Run a command of align, and end where it fails."""
    subprocess.run([sys.executable, "-m", "align", *words], check=True)


def write_rate(path: Path, rate: float) -> None:
    """Write the rate as settings of a run."""
    plain = f"{rate:.10f}".rstrip("0")  # YAML takes 1e-05 for a text
    path.write_text(f"# By search.py.\nmodel:\n  init_args:\n    optimizer: {{learning_rate: {plain}}}\n")


if __name__ == "__main__":
    main()
