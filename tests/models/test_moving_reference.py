"""A reference that follows: TRL's values, log 2 after every hard move, exact resume, shards, refusals."""

from __future__ import annotations

import copy
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.callbacks.resampling import IterativeResampling
from align.errors import ConfigError
from align.models.backbone import Backbone, LoRA
from align.models.references import MixtureTerm, MovingReference, ReferenceMixture
from align.modules.dpo import DPOModule
from align.objectives.pairwise import DPO
from align.rewards.scorers import GoldRewards
from align.rounds.pair_selections import BestWorst
from align.scoring import score_responses
from align.training.optimizer import Optimizer
from tests.models.test_reference import BATCH, adapter_folder, disturb, load, state
from tests.modules.fitting import fit, pairs_data
from tests.processes.runs import NINE, STRATEGIES, Pair
from tests.processes.runs import command as of_processes
from tests.resume.runs import KILLED, Run, same
from tests.resume.test_exact import command
from tests.test_configs import scalars
from tests.tiny import save_tiny

__all__ = ["adapter_folder"]
FAST = Optimizer(learning_rate=1e-2, lr_scheduler_type="constant")
MOVING = ["--model.reference", "MovingReference", "--model.reference.every_n_steps", "3", "--model.reference.mix", ".6"]
KIND = "BiasCorrectedReference"
AVERAGED = ["--model.reference", KIND, "--model.reference.every_n_steps", "3", "--model.reference.lag", "2"]
LORA = ["--model.backbone.lora.r", "2"]


def module(folder: Path, reference: Any, lora: LoRA | None = None) -> DPOModule:
    return DPOModule(Backbone(str(folder), lora=lora), DPO(0.1), reference=reference, optimizer=FAST)


def adapter_with_biases(folder: Path) -> Path:
    """An adapter that trains the base's own biases, of which no base has two."""
    base = save_tiny(folder / "gpt2", "gpt2")
    made = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", r=2, bias="all")
    )
    made.save_pretrained(str(folder / "biases"))
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "biases")
    return folder / "biases"


@pytest.mark.parametrize("mix", [0.6, 1.0])
def test_a_move_is_that_of_trl(mix: float, model_folder: Path) -> None:
    """To the bit, in every weight, twice in a row; TRL leaves adapters out."""
    from trl.trainer.callbacks import SyncRefModelCallback

    policy, backbone = load(model_folder)
    theirs = copy.deepcopy(policy)
    ours = MovingReference(2, mix).build(policy, backbone, None, score_responses)
    for step in range(1, 5):
        disturb(policy)
        ours.after_step(policy, step)
        if step % 2 == 0:
            SyncRefModelCallback._sync_target_model(policy, theirs, mix)
        assert ours.model is not None
        found, expected = ours.model.state_dict(), theirs.state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", ["full", "lora", "dora", "trained_adapter", "biases"])
def test_after_a_hard_move_policy_and_reference_are_one(
    kind: str, model_folder: Path, adapter_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    """The loss is log 2 at the step after a move and at the start, and at no other."""
    shapes = {"lora": LoRA(r=2), "dora": LoRA(r=2, use_dora=True)}
    folder = {"trained_adapter": adapter_folder, "biases": adapter_with_biases(tmp_path)}.get(kind, model_folder)
    own = module(folder, MovingReference(2, 1.0), shapes.get(kind))
    losses = fit(own, pairs_data(pairs_file), max_steps=6).series("train/loss")
    equal = [loss == pytest.approx(math.log(2), abs=1e-6) for loss in losses]
    assert equal == [True, False] * 3
    assert (own.built_reference.model is None) == (kind in ("lora", "dora", "trained_adapter"))


@pytest.mark.parametrize(("mix", "lora", "told"), [(0.5, LoRA(r=2), 1), (1.0, LoRA(r=2), 0), (0.5, None, 0)])
def test_a_mix_of_factors_is_told(mix: float, lora: LoRA | None, told: int, model_folder: Path) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        module(model_folder, MovingReference(2, mix), lora).build_model()
    assert sum("the factors are mixed" in str(one.message) for one in found) == told


class Watch(Callback):
    """Mixes by hand what the policy is after every step."""

    def __init__(self, every: int, mix: float) -> None:
        self.every, self.mix = every, mix
        self.expected: dict[str, torch.Tensor] = {}

    def _policy(self, pl_module: Any) -> dict[str, torch.Tensor]:
        return {n: p.detach().clone() for n, p in pl_module.model.named_parameters() if p.requires_grad}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.expected = self._policy(pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step % self.every == 0:
            for name, own in self._policy(pl_module).items():
                self.expected[name] = torch.lerp(self.expected[name], own, self.mix)


@pytest.mark.parametrize("lora", [None, LoRA(r=2)])
@pytest.mark.parametrize(("every", "mix"), [(2, 0.6), (1, 0.1)])
def test_what_it_is_after_a_run(
    every: int, mix: float, lora: LoRA | None, model_folder: Path, pairs_file: Path
) -> None:
    """Soft moves, and an average of the policy: every weight that is trained, and its adapter's factors, alone."""
    own, watch = module(model_folder, MovingReference(every, mix), lora), Watch(every, mix)
    before = state_of_base(own) if lora else {}
    fit(own, pairs_data(pairs_file), callbacks=[watch], max_steps=5)
    found = dict(own.model.named_parameters()) if lora else dict(own.built_reference.model.named_parameters())  # type: ignore[union-attr]
    for name, values in watch.expected.items():
        torch.testing.assert_close(found[name.replace(".default.", ".moving.")], values, rtol=1e-5, atol=1e-7)
    assert all(torch.equal(found[name], values) for name, values in before.items())


def state_of_base(own: DPOModule) -> dict[str, torch.Tensor]:
    own.build_model()
    return {name: p.detach().clone() for name, p in own.model.named_parameters() if "lora_" not in name}


def test_scoring_leaves_the_policy_as_it_was(model_folder: Path) -> None:
    policy, backbone = load(model_folder, lora=LoRA(r=2, lora_dropout=0.5))
    built = MovingReference().build(policy, backbone, None, score_responses)
    start = built.score(policy, BATCH).logprobs
    disturb(policy)
    before = state(policy)
    assert torch.equal(built.score(policy, BATCH).logprobs, start)
    assert state(policy) == before


@pytest.mark.parametrize(
    "more",
    [
        MOVING,
        pytest.param([*MOVING, *LORA], marks=pytest.mark.slow),
        pytest.param(AVERAGED, marks=pytest.mark.slow),
        pytest.param([*AVERAGED, *LORA], marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_has_the_reference_it_would_have_had(
    more: list[str], tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    """Checkpoints of every third step, at which it moves; killed after the second of them."""
    arguments = command(pairs_file, model_folder, *more, "--trainer.max_epochs", "1")
    whole, cut = Run(tmp_path / "whole", arguments), Run(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    moved = [name for name in whole.weights() if name.startswith("reference_model.") or ".moving." in name]
    assert moved
    assert cut(("before_step", 7, NINE)) == KILLED, cut.log
    assert cut() == 0, cut.log
    same(whole, cut)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [[], ["--model.backbone.lora.r", "2"]])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", [MOVING, AVERAGED])
def test_two_processes_move_as_one(
    kind: list[str], strategy: str, lora: list[str], tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    every = ["--trainer.callbacks+", "align.callbacks.checkpoint.Checkpoint", "--trainer.callbacks.every_n_steps", "3"]
    more = ["--model.backbone.dtype", "float64", *kind, *lora, *every]
    one = Run(tmp_path / "one", of_processes("dpo", pairs_file, model_folder, *more))
    two = Pair(tmp_path / "two", of_processes("dpo", pairs_file, model_folder, *more, strategy=strategy))
    cut = Pair(tmp_path / "cut", of_processes("dpo", pairs_file, model_folder, *more, strategy=strategy))
    assert (one(), two()) == (0, 0), one.log + two.log
    assert scalars(two.root, "train/loss") == pytest.approx(scalars(one.root, "train/loss"), rel=1e-6)
    expected, found = one.weights(), two.weights()
    for name, values in expected.items():
        if name.startswith("reference_model.") or ".moving" in name:
            torch.testing.assert_close(found[name], values, rtol=1e-7, atol=1e-9)
    assert cut(("batch_start", 5, NINE)) == KILLED, cut.log
    assert cut() == 0, cut.log
    same(two, cut)


def test_what_cannot_follow_is_refused(model_folder: Path, pairs_file: Path) -> None:
    for settings in ({"every_n_steps": 0}, {"mix": 0.0}, {"mix": 1.5}):
        with pytest.raises(ConfigError, match="MovingReference: every_n_steps must be at least 1 and mix lie in"):
            MovingReference(**settings)
    with pytest.raises(ConfigError, match="every_n_steps is 512 and the run has 3 optimiser steps"):
        fit(module(model_folder, MovingReference()), pairs_data(pairs_file), max_steps=3)
    rounds = IterativeResampling(GoldRewards(), BestWorst(), restart=True)
    with pytest.raises(ConfigError, match="MovingReference would go on from the round before where rounds restart"):
        fit(module(model_folder, MovingReference(1)), pairs_data(pairs_file), callbacks=[rounds], max_steps=3)
    policy, backbone = load(model_folder, dtype="bfloat16")
    with pytest.raises(ConfigError, match="is rounded away: train float32 weights"):
        MovingReference(1, 0.01).build(policy, backbone, None, score_responses)
    twice = ReferenceMixture([MixtureTerm(MovingReference(), 0.5), MixtureTerm(MovingReference(), 0.5)])
    policy, backbone = load(model_folder, lora=LoRA(r=2))
    with pytest.raises(ConfigError, match="two MovingReference on one base"):
        twice.build(policy, backbone, None, score_responses)


def test_an_anchor_that_follows_beside_the_start(model_folder: Path, pairs_file: Path) -> None:
    """Half start, half policy: after a hard move the anchor is halfway, so the loss is not log 2 but near it."""
    mixture = ReferenceMixture([MixtureTerm(None, 0.5), MixtureTerm(MovingReference(1, 1.0), 0.5)])
    alone = fit(module(model_folder, None), pairs_data(pairs_file), max_steps=2).series("train/rewards/margins")
    mixed = fit(module(model_folder, mixture), pairs_data(pairs_file), max_steps=2).series("train/rewards/margins")
    assert alone[0] == mixed[0] == pytest.approx(0, abs=1e-6)
    assert mixed[1] == pytest.approx(alone[1] / 2, rel=1e-4)
