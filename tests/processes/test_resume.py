"""The same command goes on after all processes were killed, and ends bit-identical: weights, moments, batches."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.processes.runs import NINE, STRATEGIES, WORLD, Pair, command
from tests.resume.runs import KILLED, same
from tests.tiny import save_tiny

MOMENTS = {"batch_start": 7, "before_step": 7, "batch_end": 7, "save": 4, "epoch_end": 1, "validation_end": 2}
"""How often a process passes a moment at least, before it is done."""
LORA = ["--model.backbone.lora.r", "2", "--model.backbone.lora.lora_dropout", "0.1"]
EVERY_STEP = ["--trainer.callbacks+", "align.callbacks.checkpoint.Checkpoint", "--trainer.callbacks.every_n_steps", "2"]


@pytest.fixture
def dropout_model(tmp_path: Path) -> Path:
    """A tiny GPT-2, which has dropout in every block."""
    return save_tiny(tmp_path / "gpt2", "gpt2")


def words(pairs: Path, model: Path, strategy: str | None, *more: str) -> list[str]:
    dropout = ["--model.backbone.dropout", "true", "--data.splits.val_fraction", "0.1", "--trainer.max_epochs", "2"]
    return command("dpo", pairs, model, *dropout, *EVERY_STEP, *more, strategy=strategy)


def random_kills(tmp_path: Path, arguments: list[str], wanted: int) -> None:
    """Kill run after run at random moments of a random process, and compare each with the whole one."""
    whole, draw, killed, runs = Pair(tmp_path / "whole", arguments), random.Random(0), 0, 0
    assert whole() == 0, whole.log
    while killed < wanted:
        cut, code = Pair(tmp_path / f"cut{runs}", arguments), KILLED
        while code == KILLED:
            moment, rank = draw.choice(list(MOMENTS)), draw.randrange(WORLD)
            count = draw.randint(1, MOMENTS[moment])
            code = cut((moment, count, NINE) if killed < wanted else None, rank=rank)
            killed += code == KILLED
        assert code == 0, cut.log
        same(whole, cut)
        runs += 1
    print(f"\n{killed} kills of both processes over {runs} runs: all bit-identical, in weights and in batches")


@pytest.mark.parametrize("strategy", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp2"])
def test_two_kills(strategy: str, tmp_path: Path, dropout_model: Path, pairs_file: Path) -> None:
    random_kills(tmp_path, words(pairs_file, dropout_model, strategy, *LORA), 2)


def test_a_signal_to_one_process_stops_both(tmp_path: Path, dropout_model: Path, pairs_file: Path) -> None:
    arguments = words(pairs_file, dropout_model, "ddp")
    whole, cut = Pair(tmp_path / "whole", arguments), Pair(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    assert cut(("batch_start", 3, int(signal.SIGTERM)), rank=1) == 128 + signal.SIGTERM, cut.log
    assert cut.log.count("stopped at step 3 by SIGTERM") == WORLD
    assert cut() == 0, cut.log
    same(whole, cut)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_many_kills(strategy: str, tmp_path: Path, dropout_model: Path, pairs_file: Path) -> None:
    random_kills(tmp_path, words(pairs_file, dropout_model, strategy), 20)
