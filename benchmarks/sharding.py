"""Peak memory of each process of a full DPO run: one process against two that share the model by FSDP2, on a CPU.

python -m benchmarks.sharding [--folder runs/sharding] [--checkpoint bfloat16] [--method dpo] [--rest "WORDS"]

Makes a Llama of 98M parameters from scratch and 24 pairs, runs `align fit` with the environment that torchrun gives,
and compares the highest resident memory and the losses of three steps.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import LlamaConfig, LlamaForCausalLM

from align.models.small import byte_tokenizer
from benchmarks.meter import MARK

CONFIGS = Path(__file__).parent.parent / "configs"


class Peak(Callback):
    """Prints the highest resident memory of its process, and the losses it saw."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Note the loss."""
        self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print both."""
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024
        print(MARK + json.dumps({"peak_mb": peak, "losses": self.losses}), flush=True)


def prepare(folder: Path, dtype: str) -> None:
    """Write model and pairs."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8192,
            hidden_size=768,
            intermediate_size=2048,
            num_hidden_layers=12,
            num_attention_heads=12,
            num_key_value_heads=12,
            max_position_embeddings=512,
            tie_word_embeddings=False,
        )
    )
    model.to(getattr(torch, dtype)).save_pretrained(folder / f"model-{dtype}")
    byte_tokenizer().save_pretrained(folder / f"model-{dtype}")
    rows = (
        {"prompt": f"What is {n} plus {n}?", "chosen": f"It is {2 * n}, of course.", "rejected": "I do not know."}
        for n in range(24)
    )
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def fit(folder: Path, method: str, dtype: str, world: int, rest: list[str]) -> list[dict[str, Any]]:
    """Run the command as so many processes and return what each of them printed."""
    trainer = CONFIGS / "trainer" / ("cpu.yaml" if world == 1 else "fsdp2.yaml")
    words = [sys.executable, "-m", "align", "fit", "-c", str(CONFIGS / "method" / f"{method}.yaml"), "-c", str(trainer)]
    words += ["--trainer.accelerator", "cpu", "--trainer.devices", str(world), "--data", "PreferenceFileDataModule"]
    words += ["--data.path", str(folder / "pairs.jsonl"), "--data.batching.groups", "8", "--trainer.max_epochs", "1"]
    words += ["--data.splits.val_fraction", "0", "--model.optimizer.learning_rate", "1e-6"]
    words += ["--model.backbone.path", str(folder / f"model-{dtype}")]
    words += ["--trainer.callbacks+", "benchmarks.sharding.Peak"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = folder / f"run-{os.getpid()}-{world}"
    processes = [
        subprocess.Popen(
            [*words, *rest, "--trainer.default_root_dir", str(root)],
            env={**os.environ, "ALIGN_IMPORT_ALLOW": "benchmarks", **launched(rank, world, port)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    printed = [process.communicate()[0] for process in processes]
    return [json.loads(text.split(MARK)[1].splitlines()[0]) for text in printed]


def launched(rank: int, world: int, port: int) -> dict[str, str]:
    """Return the environment that torchrun gives a process, nothing for one alone."""
    if world == 1:
        return {}
    sizes = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "benchmark"}
    return {**names, **{name: str(value) for name, value in sizes.items()}}


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="runs/sharding", type=Path)
    parser.add_argument("--checkpoint", default="float32", help="dtype of the model's files")
    parser.add_argument("--method", default="dpo")
    parser.add_argument("--rest", default="", help="further words of the command")
    given = parser.parse_args()
    if not (given.folder / f"model-{given.checkpoint}").exists():
        given.folder.mkdir(parents=True, exist_ok=True)
        prepare(given.folder, given.checkpoint)
    (one,) = fit(given.folder, given.method, given.checkpoint, 1, given.rest.split())
    two = fit(given.folder, given.method, given.checkpoint, 2, given.rest.split())
    apart = max(abs(a - b) / abs(a) for a, b in zip(one["losses"], two[0]["losses"], strict=True))
    for rank, found in enumerate(two):
        print(f"rank {rank}: {found['peak_mb']} MB of {one['peak_mb']} MB, {found['peak_mb'] / one['peak_mb']:.2f}")
    print(f"losses {one['losses']} and {two[0]['losses']}, at most {apart:.1e} apart (relative)")


if __name__ == "__main__":
    main()
