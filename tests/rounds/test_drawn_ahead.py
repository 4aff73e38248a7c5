"""Rounds that servers draw while the round before is trained on: by which weights, what corrects it, what is refused."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from lightning.pytorch import Callback
from transformers import AutoModelForCausalLM

from align.data.batching import Batching
from align.data.synthetic import SyntheticDataModule
from align.errors import ConfigError
from align.judges.language_judge import LanguageJudge
from align.judges.live_policy import LivePolicy
from align.judges.win_rates import WinRates
from align.models.backbone import Backbone, LoRA
from align.models.references import PreviousRound
from align.modules.dpa import DPARSFModule
from align.modules.dpo import DPOModule
from align.objectives.advantages import GroupAdvantage
from align.objectives.policy_gradient import PolicyGradient
from align.records.conditions import Tally
from align.rewards.min_max_scaled import MinMaxScaled
from align.rewards.scorers import Direction, GoldRewards
from align.rounds.conditioning_schedule import ConditioningSchedule
from align.rounds.directional_selection import DirectionalRejectionSampling
from align.rounds.every_sample import EverySample
from align.rounds.pair_selections import BestWorst
from align.sampling.colocated import ColocatedVLLM
from align.sampling.continuous_batching import ContinuousBatching
from align.sampling.generation import Generation, sample_key
from align.sampling.logit_mixture import LogitMixture
from align.sampling.ray_sampler import RaySampler
from align.sampling.server_pool import IMPORTANCE_CAP, ServerPool
from align.world.preferences import Preferences
from tests.modules.fitting import Log, fit
from tests.processes.runs import NINE, STRATEGIES, TRAINER, Pair
from tests.resume.runs import KILLED, Run, same
from tests.rounds.runs import world_model
from tests.rounds.test_kills import random_kills
from tests.rounds.test_live_policy import Watch
from tests.rounds.test_online import grpo, rounds
from tests.rounds.test_pool import pooled, stored
from tests.sampling.vllm_server import Served, vllm_serve
from tests.test_configs import scalars

__all__ = ["world_model"]
KILLS = 6
SHORT = Generation(max_new_tokens=4, num_samples=2)
MOVING = PolicyGradient(advantage=GroupAdvantage("none", "none"))
NOWHERE = ServerPool(["http://127.0.0.1:9/v1"])


class Starts(Watch):
    """Keeps the adapter alone."""

    def kept(self, model: Any) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = peft.get_peft_model_state_dict(model)
        return found


def run_ahead(module: Any, pool: ServerPool, *callbacks: Callback, **options: Any) -> Log:
    """Three rounds of two steps on four prompts."""
    data = SyntheticDataModule(Preferences(size=8, held_out_size=2), batching=Batching(groups=2), seed=0)
    options = {"generation": SHORT, "engine": pool, "ahead": 1, "prompts": 4, **options}
    return fit(module, data, callbacks=[rounds(**options), *callbacks], max_epochs=3, default_root_dir="run")


def drawn_by(root: Path) -> list[tuple[str, dict[str, float]]]:
    """Of every round, the weights it was drawn by and its numbers."""
    with sqlite3.connect(root / "rounds" / "rounds.sqlite") as db:
        rows = db.execute("SELECT policy, manifest FROM round ORDER BY number").fetchall()
    return [(policy, json.loads(manifest)["metrics"]) for policy, manifest in rows]


def plain_logprobs(base: Path, adapter: dict[str, torch.Tensor], asked: list[tuple[list[int], list[int]]]) -> Any:
    """Return the log-probabilities of responses to prompts, one after the other, by PEFT alone."""
    plain, found = AutoModelForCausalLM.from_pretrained(base), []
    model: Any = peft.get_peft_model(plain, peft.LoraConfig(r=4, lora_alpha=32, target_modules="all-linear")).eval()
    peft.set_peft_model_state_dict(model, adapter)
    for prompt, ids in asked:
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        found.append(logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0].double())
    return torch.cat(found)


def requests_of(server: Served) -> list[dict[str, Any]]:
    return [row for row in server.asked("completions") if row["max_tokens"] == SHORT.max_new_tokens]


def test_each_round_is_drawn_by_the_weights_that_the_one_before_began_with(world_model: Path, tmp_path: Path) -> None:
    """Told by what servers were asked of, by the store, and by plain forward passes with the adapters of the rounds.

    The loss is corrected by the ratio of the policy that is trained to the one that drew, an earlier one.
    """
    starts = Starts()
    with vllm_serve(world_model, tmp_path) as server:
        log = run_ahead(grpo(world_model, MOVING, lora=LoRA(r=4)), ServerPool([server.url]), starts)
        asked = requests_of(server)
    drawers, told, samples = [0, 0, 1], drawn_by(Path("run")), stored(Path("run"))
    assert len(set(starts.hashes)) == 3
    assert [policy for policy, _ in told] == [starts.hashes[n] for n in drawers]
    assert [metrics["stale"] for _, metrics in told] == log.series("rounds/stale") == [0, 1, 1]
    assert len(log.series("rounds/waited")) == 3
    assert max(log.series("rounds/engine_difference")) < 1e-5

    of_seed = {sample_key(0, *key) % 2**31: key for key in samples}
    models = [name for name, _ in groupby(asked, key=lambda row: row["model"])]
    assert len(models) == len(set(models)) == 2  # no weights were replaced while a round was drawn
    assert {(of_seed[row["seed"]][0], row["model"]) for row in asked} == {
        (0, models[0]),
        (1, models[0]),
        (2, models[1]),
    }
    prompts = {of_seed[row["seed"]]: row["prompt"] for row in asked}

    def of_adapter(number: int, asked: list[tuple[list[int], list[int]]]) -> torch.Tensor:
        return plain_logprobs(world_model, starts.weights[number], asked)

    for number, drawer in enumerate(drawers):
        own = {key: row for key, row in samples.items() if key[0] == number}
        pairs = [(prompts[key], ids) for key, (ids, _) in own.items()]
        drew = torch.cat([torch.tensor(logprobs).double() for _, logprobs in own.values()])
        torch.testing.assert_close(of_adapter(drawer, pairs), drew, rtol=0, atol=1e-5)
        ratios = (of_adapter(number, pairs) - drew).exp()
        mean = float(ratios.clamp(max=IMPORTANCE_CAP).mean())
        assert log.series("train/engine_ratio")[number] == pytest.approx(mean, rel=1e-5)
        assert (float(ratios.log().abs().mean()) > 1e-3) == (number > 0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ahead": 2}, "ahead must be 0 or 1, got 2"),
        ({"ahead": -1}, "ahead must be 0 or 1, got -1"),
        ({"engine": None}, "our own engine takes turns"),
        ({"engine": ColocatedVLLM()}, "ColocatedVLLM takes turns"),
        ({"engine": ContinuousBatching()}, "ContinuousBatching takes turns"),
        ({"engine": RaySampler(workers=1)}, "RaySampler takes turns"),
        ({"engine": ServerPool(NOWHERE.urls, importance_cap=None)}, "importance_cap null would leave uncorrected"),
        ({"engine": None, "mixture": LogitMixture([0.0, 0.5])}, "leave mixture out, or set ahead to 0"),
        ({"scorer": WinRates(LanguageJudge(LivePolicy()))}, "begins a round before the weights are there"),
    ],
)
def test_what_cannot_be_drawn_ahead_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        rounds(**{"ahead": 1, "engine": NOWHERE, "selection": EverySample(), **options})


def test_a_reference_that_is_the_policy_which_drew_is_refused(world_model: Path) -> None:
    module = DPOModule(Backbone(str(world_model), lora=LoRA(r=4)), reference=PreviousRound())
    with pytest.raises(ConfigError, match="ahead 1 draws it by the one before"):
        run_ahead(module, NOWHERE, selection=BestWorst())


@pytest.mark.slow
def test_a_round_that_asks_for_ratings_waits_for_the_model_that_has_learned_them(
    world_model: Path, tmp_path: Path
) -> None:
    """Round 0 teaches answers under their ratings; the start, which would draw round 1 ahead, has never seen any."""
    points = MinMaxScaled(GoldRewards(), {"helpfulness": (-6.0, 6.0), "verbosity": (0.0, 40.0)})
    given: dict[str, Any] = {
        "scorer": points,
        "selection": DirectionalRejectionSampling(among="pool"),
        "generation": Generation(max_new_tokens=40, num_samples=4),
        "direction": Direction(),
        "conditions": ConditioningSchedule(directions=2, targets=2),
        "missing_eos_penalty": None,
        "restart": True,
        "prompts": 3,
    }
    module, starts = DPARSFModule(Backbone(str(world_model), lora=LoRA(r=4)), Tally(system="")), Starts()
    with vllm_serve(world_model, tmp_path) as server:
        run_ahead(module, ServerPool([server.url]), starts, **given)
    told = drawn_by(Path("run"))
    assert [metrics["stale"] for _, metrics in told] == [0, 0, 1]
    assert told[0][0] != told[1][0] == told[2][0]  # the model that round 1 begins with, before it goes back, draws both


def ahead(model: Path, *servers: Served, method: str = "grpo", more: tuple[str, ...] = ()) -> list[str]:
    return [*pooled(model, *servers, method=method), "--trainer.callbacks.ahead", "1", *more]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "dpo", "refills"])
def test_random_kills(method: str, tmp_path: Path, world_model: Path) -> None:
    """The stand-in draws by the adapter and the seed alone: a run that was killed ends with the bits of a whole one."""
    more = ("--trainer.callbacks.epochs", "2", "--trainer.max_epochs", "6")
    if method == "refills":
        more += ("--trainer.callbacks.selection.skip_equal", "true", "--trainer.callbacks.refills", "3")
    with vllm_serve(world_model, tmp_path, processed=True) as server:
        words = ahead(world_model, server, method="dpo" if method == "dpo" else "grpo", more=more)
        random_kills(tmp_path, words, KILLS)


def killing_at_policies(when: str, count: int) -> Callable[[], None]:
    """Prepare a process that dies before or after the count-th time that a policy is given to servers."""

    def prepare() -> None:
        from align.sampling.written_policies import WrittenPolicies

        original, passed = WrittenPolicies.write, list[int]()

        def wrapped(self: WrittenPolicies, *given: Any, **options: Any) -> Any:
            passed.append(1)
            if (when, len(passed)) == ("before", count):
                os.kill(os.getpid(), NINE)
            written = original(self, *given, **options)
            if (when, len(passed)) == ("after", count):
                os.kill(os.getpid(), NINE)
            return written

        WrittenPolicies.write = wrapped  # type: ignore[method-assign]

    return prepare


@pytest.mark.slow
def test_kills_around_the_policies_that_are_written(tmp_path: Path, world_model: Path) -> None:
    """Of round 0, and of both that are drawn ahead: each is begun in the store by then, and nothing asked for it yet."""
    kills = [("before", 1), ("after", 1), ("before", 2), ("after", 1), ("before", 2), ("after", 1)]
    with vllm_serve(world_model, tmp_path, processed=True) as server:
        words = ahead(world_model, server)
        whole, cut = Run(tmp_path / "whole", words), Run(tmp_path / "cut", words)
        assert whole() == 0, whole.log
        for when, count in kills:
            assert cut(prepare=killing_at_policies(when, count)) == KILLED, cut.log
        assert cut() == 0, cut.log
    same(whole, cut)
    assert stored(cut.root) == stored(whole.root)
    assert drawn_by(cut.root)[2][0] == drawn_by(whole.root)[2][0]


@pytest.mark.slow
def test_servers_that_die_while_the_model_trains_are_asked_again_by_the_same_weights(
    tmp_path: Path, world_model: Path
) -> None:
    """Round 0 takes 48 samples, comparing 32: the server dies in the second batch of round 1, and another one goes on."""
    with vllm_serve(world_model, tmp_path, processed=True, dies_after=100) as dying:
        run = Run(tmp_path / "run", ahead(world_model, dying))
        assert run() == 75, run.log
    assert "are missing: they are asked for again" in run.log
    kept = stored(run.root)
    assert 48 < len(kept) < 96
    with vllm_serve(world_model, tmp_path, processed=True) as server:
        goes_on, whole = Run(run.root, ahead(world_model, server)), Run(tmp_path / "whole", ahead(world_model, server))
        assert goes_on() == 0, goes_on.log
        assert whole() == 0, whole.log
    same(whole, goes_on)
    rows = stored(run.root)
    assert len(rows) == 3 * 48
    assert all(rows[key] == row for key, row in kept.items())
    assert [metrics["stale"] for _, metrics in drawn_by(run.root)] == [0, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_and_a_kill(strategy: str, tmp_path: Path, world_model: Path) -> None:
    """The first one asks; both go on inside a round whose next one is under way."""
    with vllm_serve(world_model, tmp_path, processed=True) as server:
        words = ahead(world_model, server)
        both = ["-c", str(TRAINER / STRATEGIES[strategy]), "--trainer.accelerator", "cpu", "--trainer.devices", "2"]
        words = [*words[:5], *both, *words[5:]]
        whole, cut = Pair(tmp_path / "whole", words), Pair(tmp_path / "cut", words)
        assert whole() == 0, whole.log
        for moment in ("batch_start", "before_step"):
            assert cut((moment, 5, NINE)) == KILLED, cut.log
        assert cut() == 0, cut.log
    same(whole, cut)
    assert stored(cut.root) == stored(whole.root)
    told = drawn_by(cut.root)
    assert told[0][0] == told[1][0] != told[2][0]
    assert max(scalars(whole.root, "rounds/engine_difference")) < 1e-5
