"""Nash-MD, refilled rounds and masks of entropy survive kills, with one process and two, and two train as one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.processes.runs import NINE, TRAINER, Pair
from tests.resume.runs import KILLED, Run, same
from tests.rounds.runs import command, world_model
from tests.rounds.test_kills import random_kills
from tests.test_configs import scalars

__all__ = ["world_model"]
EVERY = "align.rounds.every_sample.EverySample"
EPOCHS = ("--trainer.callbacks.epochs", "2", "--trainer.max_epochs", "6")
TWO = "{max_new_tokens: 6, num_samples: 2, temperature: 1.0, batch_tokens: 120}"
MIXTURE = ("--trainer.callbacks.mixture", "{shares: [0.0, 0.5]}", "--trainer.callbacks.generation", TWO)
SKIP = ("--trainer.callbacks.selection.skip_equal", "true", "--trainer.callbacks.refills", "3")
DOUBLE = ("--model.backbone.dtype", "float64")
"""So that the first tokens of a prompt's samples, whose entropies are equal, are on one side of a quantile."""
FORMS = {
    "nash_md": ("nash_md", "align.rounds.against_mixture.AgainstMixture", (*MIXTURE, *EPOCHS)),
    "refills": ("grpo", EVERY, (*SKIP, "--trainer.callbacks.prompts", "4", *EPOCHS)),
    "entropy": ("grpo", EVERY, ("--model.objective.top_entropy_quantile", "0.4", *DOUBLE, *EPOCHS)),
}
KILLS = 20
TOLD = ("train/loss", "train/grad_norm", "train/reward", "train/entropy", "train/length")


def arguments_of(form: str, model: Path, *more: str) -> list[str]:
    method, selection, own = FORMS[form]
    return command(model, *own, *more, method=method, selection=selection)


def on_two(arguments: list[str]) -> list[str]:
    place = arguments.index("-c") + 4
    return [*arguments[:place], "-c", str(TRAINER / "ddp_cpu.yaml"), "--trainer.devices", "2", *arguments[place:]]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["nash_md", "refills", "entropy"])
def test_random_kills(form: str, tmp_path: Path, world_model: Path) -> None:
    random_kills(tmp_path, arguments_of(form, world_model), KILLS)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["nash_md", "refills", "entropy"])
def test_two_processes_train_as_one(form: str, tmp_path: Path, world_model: Path) -> None:
    """And go on after kills of both to the same bits."""
    arguments = arguments_of(form, world_model, "--model.optimizer.learning_rate", "1e-4")
    one, two, cut = Run(tmp_path / "one", arguments), *(Pair(tmp_path / n, on_two(arguments)) for n in ("two", "cut"))
    assert one() == 0, one.log
    assert two() == 0, two.log
    for name in TOLD:
        assert scalars(two.root, name) == pytest.approx(scalars(one.root, name), rel=1e-4, abs=1e-6), name
    draw = random.Random(0)
    for moment in ("batch_start", "save", "epoch_end"):
        assert cut((moment, draw.randint(1, 2), NINE)) == KILLED, cut.log
    assert cut() == 0, cut.log
    same(two, cut)
