"""How the cost of a list loss grows with n: `align fit` with shared prompts and with a padded row per candidate."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from jsonargparse import auto_cli

from benchmarks.compare import measure, median
from benchmarks.meter import Work

LAYOUTS = {"shared prompts": "auto", "padded rows": "padded"}


def lists(
    sizes: Sequence[int] = (2, 4, 8, 16),
    *,
    folder: str = "runs/benchmarks",
    prompts: int = 16,
    batch: int = 4,
    prompt_factors: Sequence[int] = (1, 2, 4),
    padded_up_to: int = 8,
    repeats: int = 1,
) -> None:
    """Train PRO on lists of every size, and on pairs with prompts made longer; write lists.json and lists.png.

    Args:
        sizes: Candidates per prompt; responses beyond the first two are borrowed from other prompts.
        folder: What `benchmarks.prepare` wrote.
        prompts: Prompts of an epoch, the warm-up's included.
        batch: Prompts per step.
        prompt_factors: How often a prompt is repeated, for the growth with its length.
        padded_up_to: Largest list that is also run in padded rows.
        repeats: Runs of each, in turns.
    """
    cells = [(n, 1, name) for n in sizes for name in LAYOUTS if name == "shared prompts" or n <= padded_up_to]
    cells += [(2, factor, name) for factor in prompt_factors if factor > 1 for name in LAYOUTS]
    results: dict[tuple[int, int, str], list[dict[str, Any]]] = {cell: [] for cell in cells}
    for _ in range(repeats):
        for n, factor, name in cells:
            data = write_lists(Path(folder), prompts, n, factor)
            results[n, factor, name].append(measure(command(Path(folder), data, batch, LAYOUTS[name])))
            print(
                f"n {n}, prompts x{factor}, {name}: {results[n, factor, name][-1]['cpu_s']:.1f} CPU-s", file=sys.stderr
            )
    rows = [summary(cell, runs) for cell, runs in results.items()]
    (Path(folder) / "lists.json").write_text(json.dumps(rows, indent=1) + "\n")
    show(rows)
    draw(rows, Path(folder) / "lists.png")


def write_lists(folder: Path, prompts: int, n: int, factor: int) -> Path:
    """Write the first prompts of the pairs with n responses each, and return the file."""
    pairs = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    texts = [pair[side][0]["content"] for pair in pairs for side in ("chosen", "rejected")]
    rng, path = random.Random(0), folder / f"lists-{n}-{factor}.jsonl"
    with path.open("w") as file:
        for pair in pairs[:prompts]:
            own = [pair[side][0]["content"] for side in ("chosen", "rejected")]
            others = rng.sample([text for text in texts if text not in own], n - 2)
            last = pair["prompt"][-1]
            prompt = [*pair["prompt"][:-1], {**last, "content": " ".join([last["content"]] * factor)}]
            scores = list(range(n, 0, -1))
            print(json.dumps({"prompt": prompt, "completions": own + others, "scores": scores}), file=file)
    return path


def command(folder: Path, data: Path, batch: int, layout: str) -> list[str]:
    """Return the command a user would give."""
    return [
        *(sys.executable, "-m", "align", "fit", "-c", "configs/method/pro.yaml", "-c", "configs/trainer/cpu.yaml"),
        *("--model.backbone.path", str(folder / "model"), "--model.backbone.layout", layout),
        *("--data", "PreferenceFileDataModule", "--data.path", str(data), "--data.splits.val_fraction", "0"),
        *("--data.batching.groups", str(batch), "--data.batching.tokens", "1000000000"),
        *("--data.encoding.truncation", "rm", "--data.encoding.cache_dir", str(folder / "cache")),
        *("--trainer.enable_progress_bar", "false"),
        *("--trainer.default_root_dir", str(folder / f"fit-{time.time_ns()}")),
        *("--trainer.callbacks+", "benchmarks.meter.FitMeter"),
    ]


def summary(cell: tuple[int, int, str], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one row of the table."""
    n, factor, name = cell
    own, work = median(runs), Work(runs[0]["prompts"], runs[0]["responses"])
    return {"n": n, "prompt_factor": factor, "layout": name, "tokens": work.tokens, **own}


def show(rows: list[dict[str, Any]]) -> None:
    """Print a line per cell."""
    for row in rows:
        rate = 1000 * row["cpu_s"] / row["tokens"]
        print(
            f"n {row['n']:2}  prompts x{row['prompt_factor']}  {row['layout']:14}  {row['cpu_s']:6.1f} CPU-s  "
            f"{row['tokens']:6} tokens once  {rate:.2f} ms each  padding {row['padding']:.0%}  {row['peak_gb']:.2f} GB"
        )


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot the cost over the tokens of the lists, each prompt counted once."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, marker in zip(LAYOUTS, "os", strict=True):
        points = [row for row in rows if row["layout"] == name and row["prompt_factor"] == 1]
        axes.plot([p["tokens"] for p in points], [p["cpu_s"] for p in points], marker=marker, label=name)
        for point in points:
            axes.annotate(f"n={point['n']}", (point["tokens"], point["cpu_s"]), (4, 4), textcoords="offset points")
    axes.set(xlabel="tokens, each prompt counted once", ylabel="CPU seconds", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    auto_cli(lists, as_positional=False)
