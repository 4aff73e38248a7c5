"""Data modules that stream, or read whole, and what their loaders hand over."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from align.data.batching import Batching
from align.data.data_module import PreferenceDataModule
from align.data.preference_file import PreferenceFileDataModule
from align.data.splits import Splits
from align.data.stream_loader import StreamLoader
from align.records import Step
from tests.data.test_module import needs

Rows = Sequence[dict[str, Any]]
WHOLE = Splits(val_fraction=0)


def pairs(count: int, first: int = 0) -> Rows:
    return [
        {
            "prompt": f"Question {n}?",
            "chosen": f"Answer {n * 7}.",
            "rejected": "no " * (n % 5 + 1),
            "score_chosen": n + 2,
        }
        | ({"score_rejected": 1} if n % 3 else {})
        for n in range(first, first + count)
    ]


def lines(rows: Rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def shards(folder: Path) -> Path:
    """Write three shards, of three kinds, of 11, 6 and 9 rows."""
    from datasets import Dataset

    folder.mkdir()
    (folder / "train-00000-of-00003.jsonl").write_text("\n" + lines(pairs(11)))
    (folder / "train-00001-of-00003.jsonl.gz").write_bytes(gzip.compress(lines(pairs(6, 11)).encode()))
    Dataset.from_list(list(pairs(9, 17))).to_parquet(str(folder / "train-00002-of-00003.parquet"), batch_size=4)
    return folder


def module(path: Path, window: int | None = None, *, workers: int = 0, **options: Any) -> PreferenceFileDataModule:
    batching = Batching(groups=4, tokens=60, num_workers=workers, shuffle_window=window)
    return PreferenceFileDataModule(str(path), **{"batching": batching, "seed": 3, "streaming": True, **options})


def streamed(path: Path, window: int | None = None, *, need: SimpleNamespace | None = None, **options: Any) -> Any:
    data = module(path, window, **options)
    data.connect(need or needs())
    return data


def mapped(path: Path, **options: Any) -> PreferenceFileDataModule:
    """The same data, read whole."""
    data = PreferenceFileDataModule(
        str(path), batching=Batching(groups=4, tokens=60), seed=3, **{"splits": WHOLE, **options}
    )
    data.connect(needs())
    return data


def contents(steps: Sequence[Step]) -> list[Any]:
    """Return everything that is in steps."""
    return [[{k: repr(v) for k, v in batch._asdict().items()} for batch in step] for step in steps]


def ids(steps: Sequence[Step]) -> list[tuple[str, ...]]:
    return [step.ids for step in steps]


def resumed(data: PreferenceDataModule, state: dict[str, Any], epoch: int | None = None) -> StreamLoader:
    loader = data.train_dataloader()
    assert isinstance(loader, StreamLoader)
    loader.load_state_dict(json.loads(json.dumps(state)))
    if epoch is not None:
        loader.set_epoch(epoch)
    return loader
