"""How fast rows become tokens on one core, in how much memory, and how soon the next run has its first batch.

`python -m benchmarks.data --help`; every part runs in a process of its own and prints one line.
"""

from __future__ import annotations

import gzip
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jsonargparse import auto_cli
from transformers import AutoTokenizer

from align.data.chunks import CHUNK, Chunk, encode_chunk
from align.data.drop_report import Report
from align.data.encoding import EncodingConfig
from align.data.hh_rlhf import HHRLHF, HHRLHFDataModule
from align.data.splits import Division, Splits
from align.data.views import Pairs
from align.records import RowLayout

SPLITS = Splits(val_fraction=0)
PARTS = ("tokenizer", "read", "encode", "prepare", "open", "stream")


def data(data: str, tokenizer: str, *, pairs: int = 20_000, part: str | None = None, folder: str | None = None) -> None:
    """Measure reading, encoding, both, and opening what was made.

    Args:
        data: An HH-RLHF file; its rows are repeated, under ids of their own, until there are enough.
        tokenizer: Folder of a tokenizer with a chat template.
        pairs: Rows to measure on.
        part: One of tokenizer, read, encode, prepare, open, stream; null runs all.
        folder: Where the rows and the cache are written; null takes a temporary one.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(folder or temporary)
        rows = place / f"pairs-{pairs}.jsonl"
        if not rows.exists():
            _repeat(Path(data), rows, pairs)
        for name in [part] if part else PARTS:
            if part is None:
                words = ["--data", data, "--tokenizer", tokenizer, "--pairs", str(pairs), "--part", name]
                subprocess.run([sys.executable, "-m", "benchmarks.data", *words, "--folder", str(place)], check=True)
            else:
                _measure(name, rows, tokenizer, place / "cache")


def _measure(part: str, rows: Path, tokenizer: str, cache: Path) -> None:
    needs = SimpleNamespace(
        tokenizer=AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False),
        view="pairs",
        truncation="usual",
        instructions=None,
        max_response=None,
        scores_turns=False,
        step_groups=64,
        row_layout=RowLayout,
        reads_others=False,
        reads_steps=False,
        take_labels=lambda labels: None,
        max_positions=8192,
    )
    if part in ("prepare", "open"):
        module = HHRLHFDataModule(str(rows), encoding=EncodingConfig(cache_dir=str(cache), num_proc=1), splits=SPLITS)
        _told(part, lambda: _first_batch(module, needs))
    elif part == "stream":
        module = HHRLHFDataModule(str(rows), encoding=EncodingConfig(num_proc=1), splits=SPLITS, streaming=True)
        _told("stream, first step", lambda: _first_batch(module, needs))
        _told("stream, an epoch", lambda: sum(len(step.ids) for step in module.train_dataloader()))
    elif part == "read":
        _told(part, lambda: sum(1 for _ in _pairs(rows)))
    else:
        encoder = EncodingConfig().encoder(needs)
        groups = list(itertools.islice(_pairs(rows), 20_000))
        if part == "encode":
            cut = [groups[i : i + CHUNK] for i in range(0, len(groups), CHUNK)]
            _told(part, lambda: sum(len(encode_chunk(Chunk("train", c, ()), encoder).lengths) for c in cut))
        else:
            texts = [c.text for group in groups[:2000] for c in encoder._render(group)]  # type: ignore[union-attr]
            _told(part, lambda: len(needs.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]) // 2)


def _first_batch(module: HHRLHFDataModule, needs: Any) -> int:
    module.connect(needs)
    next(iter(module.train_dataloader()))
    return len(module.groups["train"])


def _pairs(rows: Path) -> Any:
    view, report = Pairs(), Report()
    return (group for _, example in Division(HHRLHF(str(rows)), SPLITS) for group in view.made(example, report))


def _told(part: str, work: Callable[[], int]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    pairs = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{part}: {pairs} pairs, {cpu:.2f} CPU s ({pairs / cpu:.0f} a CPU s), {wall:.2f} s, peak {peak:.2f} GB",
        flush=True,
    )


def _repeat(data: Path, rows: Path, pairs: int) -> None:
    with (gzip.open if data.suffix == ".gz" else open)(data, "rt", encoding="utf-8") as file:  # type: ignore[operator]
        lines = [line.rstrip("\n") + "\n" for line in file if line.strip()]
    with rows.open("w", encoding="utf-8") as out:
        out.writelines(itertools.islice(itertools.cycle(lines), pairs))


if __name__ == "__main__":
    auto_cli(data, as_positional=False)
