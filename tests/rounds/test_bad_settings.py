"""Settings of rounds and rewards that cannot be meant, or would do nothing, are refused before anything is loaded."""

from __future__ import annotations

import math
from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer

from align.callbacks.evaluation import JudgeEvaluation, RewardEvaluation
from align.callbacks.gold import GoldEvaluation
from align.callbacks.samples import SampleTable
from align.cli.run_folder import checkpoint_to_go_on_from, save_settings
from align.data.drop_report import Report
from align.errors import AlignError, ConfigError, ResumeError
from align.judges.endpoint import Endpoint
from align.judges.language_judge import LanguageJudge
from align.judges.live_policy import LivePolicy
from align.records import Example, Message
from align.rewards.function_rewards import FunctionRewards
from align.rewards.gate import Gate
from align.rewards.scorers import Direction, GoldRewards
from align.rounds.against_mixture import AgainstMixture
from align.rounds.conditioning_schedule import ConditioningSchedule
from align.rounds.directional_selection import DirectionalRejectionSampling, RatedRows
from align.rounds.every_sample import EverySample, SoftOverlong
from align.rounds.manifest import manifest
from align.rounds.pair_selections import BernoulliPair, BestWorst, RejectionSampledPairs, ThresholdPairs
from align.rounds.refused_conditions import check_drawn
from align.rounds.round_store import StoredSample
from align.rounds.scored_samples import PromptSamples, ScoredSample
from align.rounds.selections import BestOfN, Selection
from align.rounds.settings import RoundSettings
from align.sampling.generation import Generation
from align.sampling.logit_mixture import LogitMixture

INF = math.inf
LENGTH = "align.rewards.verifiable:length"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: BestWorst(margin=-0.5), "selection.margin must not be negative or infinite, got -0.5"),
        (lambda: BestWorst(margin=INF), "selection.margin must not be negative or infinite, got inf"),
        (lambda: BernoulliPair(INF), "selection.temperature must be positive and finite, got inf"),
        (lambda: AgainstMixture(INF), "selection.temperature must be positive and finite, got inf"),
        (lambda: ThresholdPairs(INF), "selection: temperature must be positive"),
        (lambda: RejectionSampledPairs(INF), "selection: beta must be positive"),
        (lambda: SoftOverlong(8, 4, INF), "selection.overlong: buffer must lie"),
        (lambda: LogitMixture([0.0, INF]), "mixture: shares must hold a number that is not 0, all of them finite"),
        (lambda: Gate("a", 0.0, INF), "gates: penalty must not be negative, and both be finite"),
        (lambda: Gate("a", -INF), "gates: penalty must not be negative, and both be finite"),
        (lambda: Direction({}), "direction.weights must be finite, one of them not 0, or null"),
        (lambda: Direction({"a": 0.0, "b": 0}), "direction.weights must be finite, one of them not 0, or null"),
        (lambda: Direction({"a": INF}), "direction.weights must be finite, one of them not 0, or null"),
        (lambda: SampleTable(-1), "SampleTable: num_prompts must be at least 1, got -1"),
        (lambda: RewardEvaluation({}, 0), "RewardEvaluation: num_prompts must be at least 1, got 0"),
        (lambda: GoldEvaluation(0, 0), "harmless and harmful must not be negative, nor both 0, got 0, 0"),
        (lambda: GoldEvaluation(-1, 3), "harmless and harmful must not be negative, nor both 0, got -1, 3"),
        (lambda: FunctionRewards(LENGTH, time_limit=INF), "time_limit must be positive, at most 1,000,000 s, got inf"),
    ],
)
def test_numbers_that_no_reward_can_have(made: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        made()


def test_what_evaluates_is_looked_at_before_the_policy_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key, or folder, was told once the policy had answered 64 prompts."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    judge = LanguageJudge(Endpoint("https://host/v1", "m", api_key_env="NO_SUCH_KEY"))
    trainer, module = Trainer(logger=False, accelerator="cpu"), LightningModule()
    for callback, told in (
        (JudgeEvaluation(judge), "NO_SUCH_KEY"),
        (JudgeEvaluation(LanguageJudge(LivePolicy())), "LivePolicy is the model being trained"),
        (RewardEvaluation({"rm": "runs/none/model"}), "runs/none/model"),
    ):
        with pytest.raises(AlignError, match=told):
            callback.setup(trainer, module, "fit")


def settings(selection: Selection, *, direction: Direction = Direction(), **more: Any) -> RoundSettings:
    return RoundSettings(GoldRewards(), selection, Generation(max_new_tokens=6, num_samples=2), direction, **more)


@pytest.mark.parametrize(
    ("selection", "more", "told"),
    [
        (BestOfN(), {"missing_eos_penalty": -1.0}, "got -1: set it to 0 or more, or to null"),
        (BestOfN(), {"missing_eos_penalty": INF}, "got inf: set it to 0 or more, or to null"),
        (RatedRows(), {}, "selection RatedRows needs conditions"),
        (DirectionalRejectionSampling(), {}, "selection DirectionalRejectionSampling needs conditions"),
        (BestOfN(), {"conditions": ConditioningSchedule()}, "BestOfN keeps nothing of the conditions"),
        (
            DirectionalRejectionSampling(),
            {"conditions": ConditioningSchedule(), "direction": Direction({"verbosity": 1.0})},
            "direction has no effect on rounds with conditions",
        ),
        (EverySample(overlong=SoftOverlong(12, 6)), {}, r"behind limit - buffer = 6 tokens, samples have 6 at most"),
    ],
)
def test_settings_that_do_not_go_together(selection: Selection, more: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        settings(selection, **more)


def test_a_penalty_on_lengths_that_samples_have() -> None:
    settings(EverySample(overlong=SoftOverlong(11, 6)))  # the sixth token is over 5


def test_ratings_of_the_data_are_for_one_round() -> None:
    """SteerLM trained for more epochs than its round has would sample, and call its samples rows of the data."""
    rated = settings(RatedRows(), conditions=ConditioningSchedule())
    check_drawn(rated, 0)
    with pytest.raises(ConfigError, match=r"round 1 draws samples: set epochs to trainer.max_epochs"):
        check_drawn(rated, 1)
    with pytest.raises(ConfigError, match=r"round 0 draws samples: set conditions.rated_start"):
        check_drawn(settings(RatedRows(), conditions=ConditioningSchedule(rated_start=False)), 0)


def test_a_score_that_does_not_count_may_be_missing() -> None:
    """By hand: 2 * 1.5, whatever the other one is; with a weight there is no reward."""
    names, scores = ("a", "b"), (1.5, math.nan)
    assert Direction({"a": 2.0, "b": 0.0}).of(names, scores) == 3.0
    assert math.isnan(Direction({"a": 2.0, "b": 0.1}).of(names, scores))
    assert Direction({"a": 0.0}, (Gate("a", 2.0, 4.0),)).of(names, scores) == -4.0


def test_means_of_scores_are_over_those_that_there_are() -> None:
    """By hand: of b 5 alone is known, of c nothing; one missing value had made the mean of all of them one."""
    rows = [(1.0, math.nan, math.nan), (3.0, 5.0, math.nan)]
    found = tuple(ScoredSample(n, f"t{n}", "eos", row, row[0]) for n, row in enumerate(rows))
    example = Example("p", (Message("user", "?"),))
    drawn, kept = [PromptSamples(example, found, ("a", "b", "c"))], [StoredSample("p", 0, "h", [1], "t", "eos")]
    told = manifest(drawn, kept, [example], records=[example], report=Report(read=1), seconds=0.0)["metrics"]
    assert (told["a"], told["b"]) == (2.0, 5.0)
    assert "c" not in told


def test_a_run_goes_on_with_another_way_to_bear_faults(tmp_path: Any) -> None:
    """What the error of a reward function advises, `on_error: drop`, was refused as another run."""
    text = """
model: {class_path: some.Module}
trainer:
  callbacks:
  - class_path: align.callbacks.resampling.IterativeResampling
    init_args: {scorer: {class_path: E, init_args: {scorers: {near: {class_path: F, init_args: {%s}}}}}}
"""
    save_settings(tmp_path, text % "on_error: stop, function: 'a.py:f'")
    import yaml

    for given in ("on_error: drop, function: 'a.py:f'", "time_limit: 9, function: 'a.py:f', batch_size: 2"):
        assert checkpoint_to_go_on_from(tmp_path, yaml.safe_load(text % given)) is None
    with pytest.raises(ResumeError, match=r"near.init_args.function was 'a.py:f' and is 'b.py:f' now"):
        checkpoint_to_go_on_from(tmp_path, yaml.safe_load(text % "on_error: stop, function: 'b.py:f'"))
