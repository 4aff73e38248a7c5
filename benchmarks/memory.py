"""Peak memory of a step over the weights and gradients: `align` against padded rows with logits at every position.

python -m benchmarks.memory [--sizes 2 8] [--batch 4]

Trains PRO's loss on the same lists both ways, each in a process of its own: three steps, the highest resident memory
over what the process holds with weights, gradients and the loaded batch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from align.data.batching import Batching
from align.data.encoding import EncodingConfig
from align.data.preference_file import PreferenceFileDataModule
from align.models.backbone import Backbone
from align.modules.pro import PROModule
from align.records import CandidateBatch, ResponseScores
from benchmarks.lists import write_lists

STEPS = 3


def padded_scores(model: nn.Module, batch: CandidateBatch) -> ResponseScores:
    """Return log-probabilities from a row per candidate and logits of the whole vocabulary at every position."""
    prompts = torch.split(batch.prompt_ids, list(batch.prompt_lengths))
    responses = torch.split(batch.response_ids, list(batch.response_lengths))
    rows = [torch.cat([prompts[p], r]) for p, r in zip(batch.prompt_of, responses, strict=True)]
    ids = pad_sequence(rows, batch_first=True)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
    logprobs = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    starts = torch.tensor([batch.prompt_lengths[p] for p in batch.prompt_of])[:, None]
    ends = torch.tensor([len(row) for row in rows])[:, None]
    place = torch.arange(1, ids.shape[1])
    inside = (place >= starts) & (place < ends)
    return ResponseScores((logprobs * inside).sum(1), inside.sum(1))


def measure(side: str, folder: Path, n: int, groups: int) -> dict[str, float]:
    """Run the steps of one side in this process and return GB."""
    data = PreferenceFileDataModule(
        str(write_lists(folder, 2 * groups, n, 1)),
        batching=Batching(groups=groups, tokens=10**9),
        encoding=EncodingConfig(truncation="rm", cache_dir=str(folder / "cache")),
    )
    module = PROModule(Backbone(str(folder / "model")))
    module.build_model()
    data.connect(module)
    batches = list(data.batches_of("train"))
    for parameter in module.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    base = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the highest mark back
    if side == "padded":
        module.score = partial(padded_scores, module.model)  # type: ignore[method-assign]
    for number in range(STEPS):
        batch = batches[number % len(batches)]
        loss = module.loss(batch, batch.totals)
        loss.backward()  # type: ignore[no-untyped-call]
    return {"base": base, "over": resident("VmHWM") - base, "loss": loss.item()}


def resident(name: str) -> float:
    """Return a figure of this process's memory in GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 2**20


def compare(sizes: list[int], folder: str, batch: int) -> None:
    """Measure both sides for every size, each in a fresh process, and print the ratios."""
    for n in sizes:
        over = {}
        for side in ("align", "padded"):
            own = ["--side", side, "--sizes", str(n), "--folder", folder, "--batch", str(batch)]
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.memory", *own], check=True, capture_output=True, text=True
            )
            over[side] = json.loads(done.stdout.splitlines()[-1])
        ratio = over["align"]["over"] / over["padded"]["over"]
        figures = ", ".join(f"{side} {found['over']:.2f} GB over {found['base']:.2f}" for side, found in over.items())
        losses = " and ".join(f"{found['loss']:.5g}" for found in over.values())
        print(f"n = {n}: {figures}; ratio {ratio:.2f}; losses {losses}", flush=True)


def main() -> None:
    """Compare, or measure one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--folder", default="runs/benchmarks", help="what benchmarks.prepare wrote")
    parser.add_argument("--batch", type=int, default=4, help="prompts per step")
    parser.add_argument("--side", choices=("align", "padded"))
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure(given.side, Path(given.folder), given.sizes[0], given.batch)))
    else:
        compare(given.sizes, given.folder, given.batch)


if __name__ == "__main__":
    main()
