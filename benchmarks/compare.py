"""`align fit` against TRL, run in turns: `python -m benchmarks.compare --method dpo`."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig

from benchmarks.meter import MARK, Work
from benchmarks.trl_side import Method

CONFIGS = {"dpo": "dpo_cached", "reward_model": "reward_model", "sft": "sft"}


def compare(method: Method = "dpo", *, folder: str = "runs/benchmarks", batch: int = 8, repeats: int = 3) -> None:
    """Run `align fit`, TRL with its best flags and TRL as configured by default in turns, and print medians.

    Args:
        method: What to train.
        folder: What `benchmarks.prepare` wrote.
        batch: Pairs per step.
        repeats: Rounds.
    """
    trl = [sys.executable, "-m", "benchmarks.trl_side", "--method", method, "--folder", folder, "--batch", str(batch)]
    results: dict[str, list[dict[str, Any]]] = {}
    for turn in range(repeats):
        sides = {
            "align fit": fit_command(method, Path(folder), batch),
            "TRL, best flags": [*trl, "--flags", "best"],
            "TRL, defaults": [*trl, "--flags", "default"],
        }
        for name, command in sides.items():
            results.setdefault(name, []).append(measure(command))
            print(f"round {turn + 1}, {name}: {results[name][-1]['cpu_s']:.1f} CPU-s", file=sys.stderr)
    show(method, results, gemm_peak(), AutoConfig.from_pretrained(Path(folder) / "model", trust_remote_code=False))
    (Path(folder) / f"{method}.json").write_text(json.dumps(results, indent=1) + "\n")


def fit_command(method: Method, folder: Path, batch: int) -> list[str]:
    """Return the command a user would give, with a fresh run folder, and a callback that measures."""
    return [
        *(sys.executable, "-m", "align", "fit", "-c", f"configs/method/{CONFIGS[method]}.yaml"),
        *("-c", "configs/trainer/cpu.yaml", "--model.backbone.path", str(folder / "model")),
        *("--data", "PreferenceFileDataModule", "--data.path", str(folder / "pairs.jsonl")),
        *(
            "--data.batching.groups",
            str(batch),
            "--data.batching.tokens",
            "1000000000",
            "--data.splits.val_fraction",
            "0",
        ),
        *("--data.encoding.truncation", "rm", "--data.encoding.cache_dir", str(folder / "cache")),
        *("--model.optimizer.learning_rate", "1e-5", "--model.optimizer.warmup_ratio", "0"),
        *("--model.optimizer.lr_scheduler_type", "constant", "--model.optimizer.weight_decay", "0"),
        *("--trainer.enable_progress_bar", "false"),
        *("--trainer.default_root_dir", str(folder / f"fit-{time.time_ns()}")),
        *("--trainer.callbacks+", "benchmarks.meter.FitMeter"),
    ]


def measure(command: list[str]) -> dict[str, Any]:
    """Run a side and return its line. Raises RuntimeError with the end of its log where there is none."""
    threads = {"OMP_NUM_THREADS": str(os.cpu_count()), "OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false"}
    own = {"ALIGN_IMPORT_ALLOW": "benchmarks", "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **threads, **own})
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr[-800:]}")
    return {**json.loads(lines[-1].removeprefix(MARK)), "command_s": time.perf_counter() - began}


def gemm_peak(seconds: float = 3.0) -> float:
    """Return the float32 GFLOP/s of a CPU-second in products of the model's kind of size."""
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    began, used, calls = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        left @ right
        calls += 1
    return 2 * 1024**3 * calls / (time.process_time() - used) / 1e9


def show(method: Method, results: dict[str, list[dict[str, Any]]], peak: float, config: Any) -> None:
    """Print a table of medians; ratios are to `align fit`."""
    table = Table(title=f"{method}: medians; GEMM peak {peak:.0f} GFLOP/s per CPU-second")
    for column in ("", "CPU s", "x", "wall s", "x", "tokens / CPU s", "GFLOP / CPU s", "padding", "peak GB", "loss"):
        table.add_column(column, justify="right")
    ours = median(results["align fit"])
    for name, runs in results.items():
        own = median(runs)
        work = Work(runs[0]["prompts"], runs[0]["responses"])
        useful = work.flops(config, head=method != "reward_model") / own["cpu_s"] / 1e9
        table.add_row(
            *(name, f"{own['cpu_s']:.1f}", f"{own['cpu_s'] / ours['cpu_s']:.2f}", f"{own['wall_s']:.1f}"),
            *(f"{own['wall_s'] / ours['wall_s']:.2f}", f"{work.tokens / own['cpu_s']:.0f}"),
            *(f"{useful:.1f} ({useful / peak:.0%})", f"{own['padding']:.0%}", f"{own['peak_gb']:.2f}"),
            f"{own['first_loss']:.4f} {own['last_loss']:.4f}",
        )
    Console(width=130).print(table)


def median(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median of every number."""
    return {k: statistics.median(run[k] for run in runs) for k, v in runs[0].items() if isinstance(v, float)}


if __name__ == "__main__":
    auto_cli(compare, as_positional=False)
