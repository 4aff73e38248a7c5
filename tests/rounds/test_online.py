"""Methods that train on their own samples: what they are given, that they learn, resume, and are refused by name."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from align.callbacks.policy_watch import PolicyWatch
from align.callbacks.resampling import IterativeResampling
from align.data.batching import Batching
from align.data.synthetic import SyntheticDataModule
from align.errors import ConfigError, TrainingError
from align.models.backbone import Backbone, LoRA
from align.models.value_functions import AdapterValue, CriticSettings, ModelValue, TrunkValue
from align.modules.dpo import DPOModule
from align.modules.group_policy import GroupPolicyModule
from align.modules.ppo import PPOModule
from align.objectives.policy_gradient import PolicyGradient
from align.objectives.proximal import PPO, AdaptiveKL
from align.rewards.scorers import Direction, GoldRewards
from align.rounds.every_sample import EverySample, SoftOverlong
from align.rounds.pair_selections import BestWorst
from align.sampling.checked import LocalEngine
from align.sampling.generation import Generation
from align.sampling.server_pool import IMPORTANCE_CAP
from align.training.optimizer import Optimizer
from align.world.preferences import Preferences
from tests.modules.fitting import fit
from tests.processes.runs import TRAINER, Pair
from tests.resume.runs import Run
from tests.rounds.runs import command, world_model
from tests.rounds.test_kills import random_kills
from tests.test_configs import scalars

__all__ = ["world_model"]
EVERY = "align.rounds.every_sample.EverySample"
CONSTANT = Optimizer(learning_rate=1e-2, lr_scheduler_type="constant")


def rounds(**options: Any) -> IterativeResampling:
    """Shorter is better; what is cut off at its limit is half a point worse."""
    given = {
        "generation": Generation(max_new_tokens=8, num_samples=8),
        "direction": Direction({"verbosity": -1.0}),
        "prompts": 6,
        "missing_eos_penalty": 0.5,
        **options,
    }
    return IterativeResampling(given.pop("scorer", GoldRewards()), given.pop("selection", EverySample()), **given)


def run(module: Any, max_epochs: int, *, groups: int = 6, tokens: int = 10**9, **options: Any) -> Any:
    batching = Batching(groups=groups, tokens=tokens)
    data = SyntheticDataModule(Preferences(size=20, held_out_size=4), batching=batching, seed=0)
    return fit(module, data, callbacks=[rounds(**options)], max_epochs=max_epochs, default_root_dir="run")


def grpo(folder: Path, objective: PolicyGradient = PolicyGradient(), **more: Any) -> GroupPolicyModule:
    return GroupPolicyModule(Backbone(str(folder), **more), objective, optimizer=CONSTANT)


def test_a_policy_learns_what_is_rewarded(world_model: Path) -> None:
    log = run(grpo(world_model), 30)
    assert log.series("train/reward")[0] < -6
    assert log.series("train/reward")[-1] > -1
    assert log.series("train/entropy")[-1] < log.series("train/entropy")[0]


@pytest.mark.parametrize(
    "value",
    [TrunkValue(), pytest.param(TrunkValue(detached=True), marks=pytest.mark.slow), AdapterValue(), ModelValue()],
)
def test_ppo_learns_with_every_critic(value: CriticSettings, world_model: Path) -> None:
    lora = LoRA(r=8) if isinstance(value, AdapterValue) else None
    module = PPOModule(Backbone(str(world_model), lora=lora), value=value, optimizer=CONSTANT)
    log = run(module, 12, groups=3, epochs=2)
    assert log.series("train/value_loss")[-1] < 0.7 * log.series("train/value_loss")[0]
    assert log.series("train/kl")[-1] > 0
    module.export("out")
    written = {file.name for file in Path("out").iterdir()}
    assert ("adapter_model.safetensors" in written) == (lora is not None)
    assert not any("value" in name for name in written)


def test_the_tokens_are_those_that_were_drawn(world_model: Path) -> None:
    run(grpo(world_model), 1)
    with sqlite3.connect("run/rounds/rounds.sqlite") as db:
        rows = db.execute("SELECT prompt, number, ids FROM sample").fetchall()
    drawn: dict[str, dict[int, list[int]]] = {}
    for prompt, number, ids in rows:
        drawn.setdefault(prompt, {})[number] = json.loads(ids)
    for line in Path("run/rounds/round-0000.jsonl").read_text().splitlines():
        row = json.loads(line)
        own = drawn[row["id"].split("@")[0]]
        assert row["response_ids"] == [own[number] for number in sorted(own)]
        assert row["attributes"][:2] == ["reward", "finished"]


def test_at_the_start_of_a_round_nothing_has_moved(world_model: Path) -> None:
    """The ratio is exactly 1 at every first step, so that nothing is clipped and no divergence is seen."""
    log = run(grpo(world_model, PolicyGradient(beta=0.05)), 6, groups=3, epochs=2)
    moved = log.series("train/old_kl")
    assert [moved[n] for n in (0, 4, 8)] == [0, 0, 0]
    assert min(moved[n] for n in range(12) if n % 4) > 0
    assert log.series("train/kl")[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_how_a_step_is_cut_does_not_change_it(method: str, world_model: Path) -> None:
    """All of a step at once, or a group at a time: the same weights up to rounding."""
    found = []
    for tokens in (10**9, 60):
        made: Any = (
            grpo(world_model, PolicyGradient(beta=0.1, entropy_weight=0.01, kl="k1_in_reward"))
            if method == "grpo"
            else PPOModule(Backbone(str(world_model)), PPO(adaptive_kl=AdaptiveKL(1.0, 50)), optimizer=CONSTANT)
        )
        made.optimizer = Optimizer(learning_rate=1e-4, lr_scheduler_type="constant", adam_epsilon=1e-3)
        data = SyntheticDataModule(
            Preferences(size=20, held_out_size=4), batching=Batching(groups=3, tokens=tokens), seed=0
        )
        root = f"run{tokens}"
        fit(made, data, callbacks=[rounds(epochs=2)], max_epochs=2, default_root_dir=root)
        found.append(torch.cat([p.detach().flatten() for p in made.model.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)


def test_a_score_behind_the_end_is_learned_there(world_model: Path) -> None:
    """Values and divergence are 0: each token's return is its sample's score, that of the state behind an end too."""
    objective = PPO(score_at="eos_plus_one", lam=1.0)
    module = PPOModule(Backbone(str(world_model)), objective, value=TrunkValue(), optimizer=CONSTANT)
    log = run(module, 1, tokens=200, generation=Generation(max_new_tokens=64, num_samples=4))
    rows = [json.loads(line) for line in Path("run/rounds/round-0000.jsonl").read_text().splitlines()]
    samples = [found for row in rows for found in zip(row["scores"], row["response_ids"], strict=True)]
    finished = [score[1] for score, _ in samples]
    assert 0 < sum(finished) < len(finished)
    states = [len(ids) + ended for (_, ids), ended in zip(samples, finished, strict=True)]
    errors = sum(score[0] ** 2 / 2 * size for (score, _), size in zip(samples, states, strict=True))
    assert log.series("train/loss")[0] == pytest.approx(objective.vf_coef * errors / sum(states), rel=1e-5)


def test_an_adapter_learns_beside_its_base(world_model: Path) -> None:
    log = run(grpo(world_model, PolicyGradient(beta=0.01), lora=LoRA(r=8)), 4)
    assert log.series("train/kl")[0] == pytest.approx(0, abs=1e-9)
    assert log.series("train/kl")[-1] > 0


def test_prompts_of_equal_rewards_and_long_samples(world_model: Path) -> None:
    overlong = SoftOverlong(limit=8, buffer=4, penalty=2.0)
    assert [overlong.of(n) for n in (3, 4, 6, 8, 20)] == [0, 0, 1.0, 2.0, 2.0]
    run(grpo(world_model), 1, selection=EverySample(overlong=overlong), missing_eos_penalty=0.0)
    for line in Path("run/rounds/round-0000.jsonl").read_text().splitlines():
        row = json.loads(line)
        scale = row["attributes"].index("verbosity")
        for ids, scores in zip(row["response_ids"], row["scores"], strict=True):
            assert scores[0] == pytest.approx(-scores[scale] - overlong.of(len(ids)))


@pytest.mark.parametrize(
    ("made", "options", "told"),
    [
        (GroupPolicyModule, {"selection": BestWorst()}, "set selection EverySample"),
        (DPOModule, {}, "take another selection"),
        (GroupPolicyModule, {"generation": Generation(num_samples=2, top_p=0.9)}, "top_p 1"),
    ],
)
def test_what_does_not_fit_is_refused(made: Any, options: dict[str, Any], told: str, world_model: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        run(made(Backbone(str(world_model))), 1, **options)


def test_a_run_that_collapses_ends_with_a_reason(world_model: Path) -> None:
    """Thirty steps towards samples of no words end in one sample for all; each limit stops it at another step."""
    for limits, told in (({"min_entropy": 4.0}, "train/entropy"), ({"max_kl": 0.05}, "train/kl")):
        watch = PolicyWatch(**{"max_kl": None, "min_entropy": None, "patience": 3, **limits})
        data = SyntheticDataModule(Preferences(size=20, held_out_size=4), batching=Batching(groups=6), seed=0)
        with pytest.raises(TrainingError, match=f"{told} is .* 3 steps in a row"):
            fit(grpo(world_model, PolicyGradient(beta=1e-6)), data, callbacks=[rounds(), watch], max_epochs=30)
    with pytest.raises(ConfigError, match="patience"):
        PolicyWatch(patience=0)


def test_without_rounds_there_is_nothing_to_train_on(world_model: Path) -> None:
    data = SyntheticDataModule(Preferences(size=20, held_out_size=4), seed=0)
    with pytest.raises(ConfigError, match="configs/callbacks/online"):
        fit(grpo(world_model), data, max_epochs=1)
    with pytest.raises(ConfigError, match=r"needs backbone\.lora"):
        run(PPOModule(Backbone(str(world_model)), value=AdapterValue()), 1)


def test_what_servers_drew_is_corrected_without_them(world_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their log-probabilities, here some nats a token below the truth, are in the round."""
    drawn = LocalEngine.generate

    def told(self: LocalEngine, *given: Any) -> Any:
        return [[c._replace(logprobs=[-9.0] * len(c.ids)) for c in row] for row in drawn(self, *given)]

    monkeypatch.setattr(LocalEngine, "generate", told)
    log = run(grpo(world_model), 1)
    assert log.series("train/engine_difference")[0] > 2
    assert log.series("train/engine_ratio") == [IMPORTANCE_CAP]


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_responses_of_the_data_are_not_scored_as_if_they_were_read(verb: str, world_model: Path) -> None:
    data = SyntheticDataModule(Preferences(size=20, held_out_size=4), batching=Batching(groups=6), seed=0)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    with pytest.raises(ConfigError, match=f"^{verb} has nothing to compute"):
        getattr(trainer, verb)(grpo(world_model), data)


@pytest.mark.parametrize("method", ["ppo", pytest.param("rloo", marks=pytest.mark.slow)])
def test_two_processes_train_as_one(method: str, tmp_path: Path, world_model: Path) -> None:
    more = ["--trainer.callbacks.epochs", "2", "--trainer.max_epochs", "4", "--model.optimizer.learning_rate", "1e-4"]
    arguments = command(world_model, *more, method=method, selection=EVERY)
    one = Run(tmp_path / "one", arguments)
    assert one() == 0, one.log
    place = arguments.index("-c")
    both = ["-c", str(TRAINER / "ddp_cpu.yaml"), "--trainer.devices", "2"]
    two = Pair(tmp_path / "two", [*arguments[: place + 4], *both, *arguments[place + 4 :]])
    assert two() == 0, two.log
    for name in ("train/loss", "train/grad_norm", "train/reward", "train/kl"):
        assert scalars(two.root, name) == pytest.approx(scalars(one.root, name), rel=1e-4, abs=1e-6), name


def test_an_error_while_one_process_scores_ends_both(tmp_path: Path, world_model: Path) -> None:
    """Both score a part of the samples; the second one fails."""
    arguments = command(world_model, "--trainer.max_epochs", "1", method="grpo", selection=EVERY)
    both = ["-c", str(TRAINER / "ddp_cpu.yaml"), "--trainer.devices", "2"]
    two = Pair(tmp_path / "two", [*arguments[:5], *both, *arguments[5:]])

    def prepare() -> None:
        original = GoldRewards.score

        def failing(self: GoldRewards, prompts: Any, responses: Any) -> Any:
            if os.environ["RANK"] == "1":
                raise ConfigError("the scorer of the second process has a fault")
            return original(self, prompts, responses)

        GoldRewards.score = failing  # type: ignore[method-assign]

    assert two(prepare=prepare) == 2
    assert "the scorer of the second process has a fault" in two.log


@pytest.mark.parametrize("method", ["grpo", pytest.param("ppo", marks=pytest.mark.slow)])
def test_random_kills(method: str, tmp_path: Path, world_model: Path) -> None:
    more = ["--trainer.callbacks.epochs", "2", "--trainer.max_epochs", "6"]
    random_kills(tmp_path, command(world_model, *more, method=method, selection=EVERY), 1)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_many_random_kills(method: str, tmp_path: Path, world_model: Path) -> None:
    more = ["--trainer.callbacks.epochs", "2", "--trainer.max_epochs", "6"]
    random_kills(tmp_path, command(world_model, *more, method=method, selection=EVERY), 50)


def test_a_step_far_from_the_policy_that_drew_is_left_out(world_model: Path) -> None:
    """All steps of a round are on the same samples: after one that is left out the ratio is what it was."""
    most = 1 + 1e-6
    module = PPOModule(Backbone(str(world_model)), PPO(ratio_threshold=most), value=TrunkValue(), optimizer=CONSTANT)
    with pytest.warns(UserWarning, match=r"above objective.ratio_threshold 1; the step was not taken"):
        log = run(module, 12, epochs=4, generation=Generation(max_new_tokens=8, num_samples=2))
    ratios = log.series("train/ratio")
    assert [ratios[n] for n in (0, 4, 8)] == [1, 1, 1]
    left_out = [n for n in range(12) if ratios[n] > most]
    assert log.series("train/skipped_steps")[-1] == len(left_out) > 0
    for n in left_out:
        if (n + 1) % 4:
            assert ratios[n + 1] == pytest.approx(ratios[n], abs=1e-6)
    assert any(abs(ratios[n] - 1) > 1e-4 for n in range(12))
