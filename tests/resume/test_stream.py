"""A run on streamed shards, killed anywhere and started again, ends with the same weights and has seen the same steps."""

from __future__ import annotations

import gzip
import json
import signal
from pathlib import Path

import pytest

from tests.processes.runs import STRATEGIES, TRAINER
from tests.processes.test_resume import random_kills as kill_pairs
from tests.resume.runs import KILLED, Run, same
from tests.resume.test_exact import random_kills
from tests.test_configs import CPU, ROOT

NINE = int(signal.SIGKILL)
ROWS = 25


def shards(folder: Path) -> Path:
    """Write three shards, of three kinds, and a validation file."""
    from datasets import Dataset

    folder.mkdir()
    rows = [
        {"prompt": f"Question {n}?", "chosen": f"Answer {n * 7}.", "rejected": "no " * (n % 5 + 1)} for n in range(ROWS)
    ]
    texts = ["".join(json.dumps(row) + "\n" for row in part) for part in (rows[:9], rows[9:13], rows[20:])]
    (folder / "train-00000-of-00003.jsonl").write_text(texts[0])
    (folder / "train-00001-of-00003.jsonl.gz").write_bytes(gzip.compress(texts[1].encode()))
    Dataset.from_list(rows[13:20]).to_parquet(str(folder / "train-00002-of-00003.parquet"), batch_size=3)
    (folder / "validation.jsonl").write_text(texts[2])
    return folder


def words(data: Path, model: Path, trainer: str = CPU) -> list[str]:
    """Steps of four pairs, in windows of seven rows, with dropout."""
    return [
        *("fit", "-c", str(ROOT / "configs" / "method" / "dpo.yaml"), "-c", trainer),
        *("--data", "PreferenceFileDataModule", "--data.path", str(data), "--data.streaming", "true"),
        *("--data.batching.groups", "4", "--data.batching.shuffle_window", "7"),
        *("--model.backbone.path", str(model), "--model.backbone.dropout", "true"),
        *("--model.optimizer.learning_rate", "1e-3", "--trainer.max_epochs", "2", "--trainer.max_steps", "100"),
        *("--trainer.callbacks+", "align.callbacks.checkpoint.Checkpoint", "--trainer.callbacks.every_n_steps", "3"),
    ]


@pytest.fixture
def dropout_model(tmp_path: Path) -> Path:
    """A tiny GPT-2, which has dropout (a Llama has none outside attention)."""
    from tests.tiny import save_tiny

    return save_tiny(tmp_path / "gpt2", "gpt2")


TERM = int(signal.SIGTERM)
KILLS = {
    "inside": [("batch_end", 8, NINE)],
    "behind_the_border": [("batch_start", 6, NINE), ("batch_end", 3, NINE)],
    "border": [("epoch_end", 1, NINE), ("batch_end", 6, NINE)],
    "twice": [("batch_end", 4, NINE), ("batch_start", 2, NINE)],
    "stopped_at_the_last_step": [("before_step", 5, TERM), ("batch_end", 2, NINE)],
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "inside" else pytest.mark.slow) for n in KILLS])
def test_kills_change_nothing(name: str, tmp_path: Path, dropout_model: Path) -> None:
    arguments = words(shards(tmp_path / "data"), dropout_model)
    whole, cut = Run(tmp_path / "whole", arguments), Run(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    assert [cut(kill) for kill in KILLS[name]] == [KILLED if k[2] == NINE else 128 + TERM for k in KILLS[name]], cut.log
    assert cut() == 0, cut.log
    same(whole, cut)
    steps = whole.batches()
    for epoch in range(2):
        ids = [name for own, _, names in steps for name in names if own == epoch]
        assert len(ids) == len(set(ids)) == ROWS - 5
    assert len({json.dumps(names) for _, _, names in steps}) == len(steps)  # other steps in every epoch
    assert not Path("runs/cache").exists()


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 6])  # inside an epoch, and at the end of one
def test_shards_that_changed_are_refused(step: int, tmp_path: Path, dropout_model: Path) -> None:
    data = shards(tmp_path / "data")
    cut = Run(tmp_path / "cut", [*words(data, dropout_model), "--trainer.callbacks.every_n_steps", "1"])
    assert cut(("batch_start", step, NINE)) == KILLED
    with (data / "train-00000-of-00003.jsonl").open("a") as file:
        file.write("\n")
    assert cut() != 0
    assert "cannot resume: shard train-00000-of-00003.jsonl had" in cut.log.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--data.batching.num_workers", "1"], ["--trainer.limit_train_batches", "4"]])
def test_many_random_kills(tmp_path: Path, dropout_model: Path, more: list[str]) -> None:
    data = shards(tmp_path / "data")
    assert random_kills(tmp_path, [*words(data, dropout_model), *more], 20) >= 20


@pytest.mark.slow
def test_random_kills_of_two_processes(tmp_path: Path, dropout_model: Path) -> None:
    two = words(shards(tmp_path / "data"), dropout_model, str(TRAINER / STRATEGIES["ddp"]))
    kill_pairs(tmp_path, [*two, "--trainer.accelerator", "cpu", "--trainer.devices", "2"], 8)
