"""Write lengths.json: tokens of real prompts and responses, `python -m benchmarks.gpu.prepare_lengths --shared FOLDER`.

FOLDER holds data/ with HH-RLHF harmless-base, UltraFeedback pairs, AlpacaEval answers in lists of 8, and the Qwen2
tokenizer. What is kept of each is spread evenly over all groups by length, so that means and tails stay.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import auto_cli
from transformers import AutoTokenizer

from align.data.encoding import EncodingConfig
from align.data.hh_rlhf import HHRLHFDataModule
from align.data.preference_file import PreferenceFileDataModule
from align.data.splits import Splits
from align.data.ultrafeedback import UltraFeedbackDataModule

OUT = Path(__file__).with_name("lengths.json")
KEPT = {"hh": 256, "uf": 256, "lists": 64}


class Asked:
    """What a method on pairs or lists tells its data; longer ones than the usual limit of 2048 tokens are cut."""

    truncation, step_groups, max_positions = "usual", 64, 32768
    instructions = max_response = None
    scores_turns = reads_others = reads_steps = False

    def __init__(self, tokenizer: str, view: str) -> None:
        self.tokenizer, self.view = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False), view

    def take_labels(self, labels: Any) -> None:
        """Take nothing."""


def lists_file(source: Path, folder: str) -> str:
    """Write the rows that have eight answers as one preference file."""
    with gzip.open(source, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    out = Path(folder) / "lists.jsonl"
    texts = [
        {
            "prompt": row["prompt"],
            "completions": [answer["text"] for answer in row["responses"]],
            "scores": [answer["reward"] for answer in row["responses"]],
        }
        for row in rows
        if len(row["responses"]) == 8 and all(answer["text"].strip() for answer in row["responses"])
    ]
    out.write_text("\n".join(map(json.dumps, texts)) + "\n")
    return str(out)


def rows_of(data: Any, view: str, tokenizer: str) -> list[list[int]]:
    """Return the lengths of every group: prompt, then responses."""
    data.connect(Asked(tokenizer, view))
    groups = data.groups["train"]
    return [[len(g.prompt_ids), *map(len, g.response_ids)] for g in groups[list(range(len(groups)))]]


def spread(rows: list[list[int]], count: int) -> list[list[int]]:
    """Return so many rows, evenly spaced by total length."""
    ordered = sorted(rows, key=lambda row: (sum(row), row))
    return [ordered[i] for i in np.linspace(0, len(ordered) - 1, count).round().astype(int)]


def main(shared: str) -> None:
    """Encode the data and write the lengths."""
    data, found = Path(shared) / "data", {}
    tokenizer = str(data / "tokenizer-qwen2")
    with tempfile.TemporaryDirectory() as folder:
        settings = {"encoding": EncodingConfig(cache_dir=folder, num_proc=1), "splits": Splits(0), "seed": 0}
        ranked = lists_file(data / "alpaca-eval-ranked" / "ranked.jsonl.gz", folder)
        sources = {
            "hh": (HHRLHFDataModule(str(data / "hh-rlhf-harmless-base" / "test.jsonl.gz"), **settings), "pairs"),
            "uf": (
                UltraFeedbackDataModule(str(data / "ultrafeedback-binarized" / "train.jsonl.gz"), **settings),
                "pairs",
            ),
            "lists": (PreferenceFileDataModule(ranked, **settings), "lists_by_reward"),
        }
        for name, (module, view) in sources.items():
            rows = [row for row in rows_of(module, view, tokenizer) if name != "lists" or len(row) == 9]
            kept = spread(rows, KEPT[name])
            print(name, len(rows), "groups; means of prompt and responses:", *means(rows), "kept:", *means(kept))
            found[name] = kept
    lines = (f'"{name}": {json.dumps(rows, separators=(",", ":"))}' for name, rows in found.items())
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def means(rows: list[list[int]]) -> list[str]:
    """Return the mean length of prompts and of responses."""
    return [f"{np.mean([row[0] for row in rows]):.0f}", f"{np.mean([n for row in rows for n in row[1:]]):.0f}"]


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
