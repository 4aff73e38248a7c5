"""Two processes that sample from one sharded model draw what one process does, and train on it alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from align.callbacks.resampling import PAIR
from align.errors import ConfigError
from align.rewards.scorers import Direction, GoldRewards
from align.rounds.pair_selections import BestWorst
from align.rounds.round_engine import RoundEngine
from align.rounds.settings import RoundSettings
from align.sampling.server_pool import ServerPool
from tests.processes.runs import NINE, TRAINER, Pair
from tests.resume.runs import KILLED, Run, same
from tests.rounds.runs import command, world_model
from tests.rounds.test_online import EVERY
from tests.test_configs import CPU, scalars

__all__ = ["world_model"]
LORA = ["--model.backbone.lora.r", "4"]


def sharded(arguments: list[str]) -> list[str]:
    """The command as two processes under FSDP2."""
    place = arguments.index(CPU) + 1
    both = ["-c", str(TRAINER / "fsdp2.yaml"), "--trainer.accelerator", "cpu", "--trainer.devices", "2"]
    return [*arguments[:place], *both, *arguments[place:]]


def as_one(tmp_path: Path, arguments: list[str], names: tuple[str, ...], *more: str, exact: bool = True) -> None:
    """Run both ways in float64, where no sum's order moves a sample, and compare what is logged and drawn.

    Of `exact` rounds the scores too are equal to the last bit.
    """
    arguments = [*arguments, "--model.backbone.dtype", "float64"]
    alone = arguments if more[:1] == ("--trainer.callbacks.whole_weights",) else [*arguments, *more]
    one, two = Run(tmp_path / "one", alone), Pair(tmp_path / "two", sharded([*arguments, *more]))
    assert one() == 0, one.log
    assert two() == 0, two.log
    for name in names:
        assert scalars(two.root, name) == pytest.approx(scalars(one.root, name), rel=1e-6, abs=1e-9), name
    rounds = sorted(file.name for file in (one.root / "rounds").glob("round-*.jsonl"))
    assert len(rounds) == 3
    for name in rounds:
        of_one, of_two = ((run.root / "rounds" / name).read_text() for run in (one, two))
        if exact:
            assert of_two == of_one
        for own, other in zip(of_one.splitlines(), of_two.splitlines(), strict=True):
            first, second = json.loads(own), json.loads(other)
            assert second.pop("scores") == [pytest.approx(row, rel=1e-9) for row in first.pop("scores")]
            assert second == first


@pytest.mark.parametrize(
    "more", [LORA, pytest.param(["--trainer.callbacks.whole_weights", "true"], marks=pytest.mark.slow)]
)
def test_online(more: list[str], tmp_path: Path, world_model: Path) -> None:
    arguments = command(world_model, "--model.objective.beta", "0.05", method="grpo", selection=EVERY)
    as_one(tmp_path, arguments, ("train/loss", "train/grad_norm", "train/reward", "train/kl"), *more)


VALUES = {
    "adapter": LORA,
    "trunk": ["--model.value", "TrunkValue"],
    "model": ["--model.value", "ModelValue"],
    "model beside LoRA": [*LORA, "--model.value", "ModelValue"],
}


@pytest.mark.slow
@pytest.mark.parametrize("value", VALUES)
def test_critics(value: str, tmp_path: Path, world_model: Path) -> None:
    """Two inner epochs, so that ratios, values and their clips move."""
    twice = ["--trainer.callbacks.epochs", "2", "--trainer.max_epochs", "6", "--model.objective.kl_coef", "0.05"]
    names = ("train/loss", "train/grad_norm", "train/value_loss", "train/policy_loss", "train/kl")
    as_one(tmp_path, command(world_model, *twice, *VALUES[value], method="ppo", selection=EVERY), names)


YES = {"class_path": "align.judges.language_scorer.YesProbability", "init_args": {"responder": "LivePolicy"}}
WINS = {
    "class_path": "align.judges.win_rates.WinRates",
    "init_args": {"judge": {"class_path": "ScorerJudge", "init_args": {"scorer": YES, "graded": True}}},
}


@pytest.mark.slow
@pytest.mark.parametrize("scorer", [YES, WINS])
@pytest.mark.parametrize("more", [LORA, ["--trainer.callbacks.whole_weights", "true"]])
def test_the_policy_as_judge(scorer: dict[str, Any], more: list[str], tmp_path: Path, world_model: Path) -> None:
    """One process asks what is sharded: every sample for itself, and all of a prompt against each other."""
    arguments = command(world_model)
    arguments[arguments.index("align.rewards.scorers.GoldRewards")] = json.dumps(scorer)
    arguments[arguments.index("{weights: {verbosity: -1.0}}")] = "{weights: null}"
    as_one(tmp_path, arguments, ("train/loss", "train/grad_norm", "rounds/reward"), *more, exact=False)


PREVIOUS = ["--model.reference", "align.models.references.PreviousRound"]
RESTART = ["--trainer.callbacks.restart", "true", "--trainer.callbacks.epochs", "2", "--trainer.max_epochs", "6"]
MIXTURE = ["--trainer.callbacks.mixture", "{shares: [0, 1, -0.5, 0.5]}"]


@pytest.mark.parametrize(
    "more", [pytest.param(more, marks=pytest.mark.slow) for more in (PREVIOUS, RESTART, MIXTURE, [*MIXTURE, *LORA])]
)
def test_rounds(more: list[str], tmp_path: Path, world_model: Path) -> None:
    as_one(tmp_path, command(world_model, *more), ("train/loss", "train/grad_norm", "rounds/reward"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "moment"), [("grpo", "before_step"), ("grpo", "batch_end"), ("grpo", "save"), ("ppo", "batch_end")]
)
def test_a_kill(method: str, moment: str, tmp_path: Path, world_model: Path) -> None:
    arguments = sharded(
        command(
            world_model,
            *LORA,
            "--trainer.callbacks.epochs",
            "2",
            "--trainer.max_epochs",
            "6",
            method=method,
            selection=EVERY,
        )
    )
    whole, cut = Pair(tmp_path / "whole", arguments), Pair(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    assert cut((moment, 5, NINE), rank=1) == KILLED, cut.log
    assert cut() == 0, cut.log
    same(whole, cut)


def test_what_cannot_be(tmp_path: Path) -> None:
    """Whether there are shards is known before anything is sampled."""
    whole, shards = SimpleNamespace(device_mesh=None), SimpleNamespace(device_mesh="a mesh")
    gathering = RoundSettings(GoldRewards(), BestWorst(), PAIR, Direction(), whole_weights=True)
    RoundEngine(gathering, tmp_path).check(shards)
    with pytest.raises(ConfigError, match="whole_weights is for a model that FSDP2 shards"):
        RoundEngine(gathering, tmp_path).check(whole)
    with pytest.raises(ConfigError, match="others have whole weights anyway"):
        replace(gathering, engine=ServerPool(["http://127.0.0.1:1/v1"]))
