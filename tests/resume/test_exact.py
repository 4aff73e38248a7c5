"""The same command after a kill anywhere ends with bit-identical weights and has seen the same batches."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from align.data.loader import BatchLoader
from tests.modules.aligned import adapters
from tests.resume.runs import KILLED, Run, same
from tests.test_configs import CPU, ROOT

NINE = int(signal.SIGKILL)


def command(pairs: Path, model: Path, *more: str, method: str = "dpo") -> list[str]:
    """Three epochs of ten batches of four pairs, with dropout."""
    return [
        *("fit", "-c", str(ROOT / "configs" / "method" / f"{method}.yaml"), "-c", CPU),
        *("--data", "PreferenceFileDataModule", "--data.path", str(pairs)),
        *("--data.batching.groups", "4", "--data.splits.val_fraction", "0.1", "--model.backbone.path", str(model)),
        *("--model.backbone.dropout", "true", "--model.optimizer.learning_rate", "1e-3"),
        *("--trainer.max_epochs", "3", "--trainer.callbacks+", "align.callbacks.checkpoint.Checkpoint"),
        *("--trainer.callbacks.every_n_steps", "3", *more),
    ]


@pytest.fixture
def dropout_model(tmp_path: Path) -> Path:
    """A tiny GPT-2, which has dropout (a Llama has none outside attention)."""
    from tests.tiny import save_tiny

    return save_tiny(tmp_path / "gpt2", "gpt2")


SETTINGS: dict[str, tuple[str, list[str]]] = {
    "dpo": ("dpo", []),
    "lora": ("dpo", ["--model.backbone.lora.r", "2", "--model.backbone.lora.lora_dropout", "0.1"]),
    "cached": ("dpo_cached", ["--model.backbone.dropout", "false"]),
    "reward_model": ("reward_model", []),
    "reward_model_multi": ("reward_model_multi", ["--model.objective.scales", '{"score": [0, 3]}']),
    "sft": ("sft", []),
    "accumulation": ("dpo", ["--data.batching.groups", "12", "--data.batching.tokens", "300"]),
    "kto": ("kto", ["--trainer.val_check_interval", "0.4"]),
    "bco": ("bco", ["--data.batching.tokens", "120", "--trainer.val_check_interval", "2"]),
    "micro_batches": ("dpo", ["--data.batching.tokens", "120"]),
    "two_workers": ("dpo", ["--data.batching.num_workers", "2"]),
    "rahf": ("lorra", ["--model.backbone.dropout", "false", "--model.reading.cache", "disk"]),
    "rahf_dual": ("rahf_dual", ["--model.backbone.dropout", "false", "--model.stage1", "first"]),
    "max_steps": ("dpo", ["--trainer.max_steps", "25"]),
}
MOMENTS = [
    ("batch_start", 8),
    ("before_step", 5),
    ("batch_end", 10),
    ("save", 2),
    ("epoch_end", 1),
    ("validation_end", 2),
]


IN_CI = ("two_workers",)
"""Its workers hold what has to be kept (random kills are of DPO); the others run with the long proofs."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in IN_CI else pytest.mark.slow) for name in SETTINGS]
)
def test_two_kills_change_nothing(name: str, tmp_path: Path, dropout_model: Path, pairs_file: Path) -> None:
    method, more = SETTINGS[name]
    if "first" in more:
        adapters(dropout_model, Path("first"), ["good", "bad"])
    arguments = command(pairs_file, dropout_model, *more, method=method)
    whole, cut = Run(tmp_path / "whole", arguments), Run(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    draw = random.Random(name)
    codes = [cut((moment, count, NINE)) for moment, count in draw.sample(MOMENTS, 2)]
    assert KILLED in codes, cut.log  # accumulation passes some moments too rarely for the other one
    assert set(codes) <= {KILLED, 0, 2}, cut.log
    assert cut() == (2 if 0 in codes else 0), cut.log  # a run that came to its end is not begun again
    same(whole, cut)


def random_kills(tmp_path: Path, arguments: list[str], wanted: int) -> int:
    """Kill run after run at random moments, each until it is finished, and compare each with the whole one."""
    whole, draw, killed, runs = Run(tmp_path / "whole", arguments), random.Random(0), 0, 0
    assert whole() == 0, whole.log
    moments = ["batch_start", "before_step", "batch_end", "save", "epoch_end", "validation_end"]
    while killed < wanted:
        cut, code = Run(tmp_path / f"cut{runs}", arguments), KILLED
        while code == KILLED:
            moment = draw.choice(moments)
            code = cut((moment, draw.randint(1, 2 if moment in ("epoch_end", "validation_end") else 7), NINE))
            killed += code == KILLED
        assert code == 0, cut.log
        same(whole, cut)
        runs += 1
    print(f"\n{killed} kills over {runs} runs: {runs} of {runs} bit-identical, in weights and in batches")
    return killed


def test_random_kills(tmp_path: Path, dropout_model: Path, pairs_file: Path) -> None:
    assert random_kills(tmp_path, command(pairs_file, dropout_model), 4) >= 4


@pytest.mark.slow
def test_many_random_kills(tmp_path: Path, dropout_model: Path, pairs_file: Path) -> None:
    assert random_kills(tmp_path, command(pairs_file, dropout_model), 200) >= 200


def drop_count() -> None:
    original = BatchLoader.load_state_dict
    BatchLoader.load_state_dict = lambda self, state: original(self, {**state, "batches": 0})  # type: ignore[method-assign]


def drop_seed() -> None:
    import align.training.base_module

    align.training.base_module.seed_step = lambda *_: None


@pytest.mark.parametrize(
    ("sabotage", "kills"),
    [
        (drop_count, [("batch_end", 5, NINE)]),
        pytest.param(drop_seed, [("batch_end", 5, NINE)], marks=pytest.mark.slow),
    ],
)
def test_sabotage_is_found(
    sabotage: Callable[[], None],
    kills: list[tuple[str, int, int]],
    tmp_path: Path,
    dropout_model: Path,
    pairs_file: Path,
) -> None:
    """Each part of the mechanism is needed: without it the same kills change weights or batches."""
    arguments = command(pairs_file, dropout_model, method="sft")
    whole, cut = Run(tmp_path / "whole", arguments), Run(tmp_path / "cut", arguments)
    assert whole(prepare=sabotage) == 0, whole.log
    for kill in kills:
        assert cut(kill, prepare=sabotage) == (KILLED if kill[2] == NINE else 128 + kill[2]), cut.log
    cut(prepare=sabotage)
    with pytest.raises((AssertionError, KeyError)):
        same(whole, cut)
