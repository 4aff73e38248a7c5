"""Scorers: identities, gold rewards, directions and gates, preferences and win rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from align.errors import ConfigError, DataError
from align.judges.win_rates import ScorerJudge
from align.models.backbone import Backbone
from align.models.model_export import export_model
from align.models.reward_file import write_reward_file
from align.modules.reward_model import RewardModel
from align.records import Example, LabelScaling, Message
from align.rewards.ensemble import RewardEnsemble
from align.rewards.function_rewards import FunctionRewards
from align.rewards.gate import Gate
from align.rewards.min_max_scaled import MinMaxScaled
from align.rewards.scorers import Dialogue, Direction, GoldRewards, RewardFolder, Scorer
from align.rewards.weighted_attributes import WeightedAttributes
from align.world.gold_rewards import REWARDS, User, gold
from align.world.prompts import held_out_prompts
from align.world.universe import World
from tests.tiny import save_reward_model

WORLD = World()
PROMPTS = held_out_prompts(WORLD, 3, 2)


def test_gold_rewards_are_those_of_the_world() -> None:
    scorer, text = GoldRewards(WORLD), "I will not help with that."
    found = scorer.score(PROMPTS, [text] * 5)
    assert scorer.attributes == REWARDS
    assert found.tolist() == [list(gold(WORLD, p, text)) for p in PROMPTS]
    reader = Direction({"helpfulness": 1.0, "verbosity": -0.05, "harmlessness": 1.0})
    assert reader.of(REWARDS, found[0].tolist()) == pytest.approx(User().reward(gold(WORLD, PROMPTS[0], text)))
    assert scorer.score([], []).shape == (0, 3)
    assert scorer.identity == GoldRewards(World()).identity != GoldRewards(World(seed=1)).identity


def test_a_folder_is_known_by_its_files(tmp_path: Path, model_folder: Path) -> None:
    module = RewardModel(Backbone(str(model_folder)))
    module.build_model()
    export_model(module.model, module.tokenizer, tmp_path / "rm")
    scorer = RewardFolder(str(tmp_path / "rm"))
    before = scorer.identity
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    prompts = [(Message("user", "hello"),)] * 3
    alone = torch.cat([scorer.score(prompts[:1], [text]) for text in ("a", "longer than that", "b")])
    torch.testing.assert_close(scorer.score(prompts, ["a", "longer than that", "b"]), alone)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert scorer.attributes == ("reward",)
    config = tmp_path / "rm" / "config.json"
    config.write_text(config.read_text() + " ")
    assert RewardFolder(str(tmp_path / "rm")).identity != before


def test_directions_and_gates() -> None:
    """v . r = 0.8 * 70 - 0.6 * 60 = 20; a gate that is not reached takes its penalty."""
    names, scores = ("helpfulness", "verbosity"), (70.0, 60.0)
    weights = {"helpfulness": 0.8, "verbosity": -0.6}
    assert Direction(weights).of(names, scores) == pytest.approx(20.0)
    assert Direction().of(names, scores) == 70.0
    assert Direction(weights, (Gate("helpfulness", 75.0, penalty=5.0),)).of(names, scores) == pytest.approx(15.0)
    assert Direction(weights, (Gate("helpfulness", 70.0),)).of(names, scores) == pytest.approx(20.0)
    assert math.isnan(Direction(weights).of(names, (70.0, math.nan)))
    assert Direction({"helpfulness": 1.0}).of(names, (70.0, math.nan)) == 70.0
    assert math.isnan(Direction({"helpfulness": 1.0}, (Gate("verbosity", 0.0),)).of(names, (70.0, math.nan)))
    with pytest.raises(ConfigError, match="names 'wit', the scorer has helpfulness, verbosity: weigh these, or set"):
        Direction({"wit": 1.0}).of(names, scores)
    with pytest.raises(ConfigError):
        Gate("a", 0.0, penalty=-1.0)


def test_prompts_of_no_world_are_told_before_they_are_answered() -> None:
    with pytest.raises(DataError, match=r"no entity of the world is named in the prompt 'Say so': .* another scorer"):
        GoldRewards().check_examples([Example("a", (Message("user", "Say so"),))])


@pytest.mark.parametrize(
    ("degrees", "best"), [(0, 3), (-15, 1), (-30, 1), (-45, 2)]
)  # the worked table of DPA, section 5.5
def test_the_best_response_turns_with_the_direction(degrees: int, best: int) -> None:
    responses = [(70.0, 60.0), (66.0, 45.0), (50.0, 20.0), (72.0, 70.0)]
    angle = math.radians(degrees)
    direction = Direction({"r1": math.cos(angle), "r2": math.sin(angle)})
    values = [direction.of(("r1", "r2"), r) for r in responses]
    assert values.index(max(values)) == best
    expected = {0: 72.0, -15: 52.104, -30: 34.658, -45: 21.213}
    assert max(values) == pytest.approx(expected[degrees], abs=5e-4)


class Rows(Scorer):
    """Scores that are written down."""

    attributes = ("if", "truth", "honesty", "help", "verbosity")
    identity = "rows"

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> torch.Tensor:
        rows = {"a": [80.0, 60, 40, 20, 30], "b": [0, 100, 50, math.nan, 70]}
        return torch.tensor([rows[response] for response in responses], dtype=torch.float64).reshape(-1, 5)


ASPECTS = dict.fromkeys(("if", "truth", "honesty", "help"), 1.0)


def test_attributes_are_weighted_means_of_others() -> None:
    """(80 + 60 + 40 + 20) / 4 = 50; (3 x 80 + 20) / 4 = 65. Where a part is missing so is the mean."""
    scorer = WeightedAttributes(Rows(), {"verbosity": {"verbosity": 2.0}, "helpfulness": ASPECTS})
    found = scorer.score(PROMPTS[:2], ["a", "b"])
    assert scorer.attributes == ("verbosity", "helpfulness")
    torch.testing.assert_close(found, torch.tensor([[30.0, 50.0], [70.0, math.nan]]).double(), equal_nan=True)
    uneven = WeightedAttributes(Rows(), {"helpfulness": {"help": 1.0, "if": 3.0}})
    assert uneven.score(PROMPTS[:1], ["a"]).tolist() == [[65.0]]
    assert uneven.score([], []).shape == (0, 1)
    assert uneven.identity != WeightedAttributes(Rows(), {"helpfulness": {"help": 1.0, "if": 2.0}}).identity


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({}, "names none"),
        ({"h": {"wit": 1.0}}, r"attributes\.h names 'wit', the scorer has if, truth"),
        ({"h": {"if": 1.0, "truth": -1.0}}, "expected a positive weight"),
        ({"h": {}}, "expected a positive weight"),
        ({"h": {"if": math.inf}}, "expected a positive weight"),
    ],
)
def test_weights_that_make_no_mean(attributes: dict[str, dict[str, float]], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        _ = WeightedAttributes(Rows(), attributes).identity


def test_which_scores_are_log_odds() -> None:
    """The sigmoid of a difference of gold rewards or of a reward model's is a chance; that of points is not."""
    length = FunctionRewards("align.rewards.verifiable:length")
    assert GoldRewards().log_odds
    assert WeightedAttributes(GoldRewards(), {"a": {"helpfulness": 1.0}}).log_odds
    assert not MinMaxScaled(GoldRewards(), {"helpfulness": (0, 1)}).log_odds
    assert not length.log_odds
    assert not RewardEnsemble({"gold": GoldRewards(), "length": length}).log_odds
    assert RewardEnsemble({"gold": GoldRewards(), "other": GoldRewards()}).log_odds


def test_points_of_a_model_of_ratings_are_no_log_odds(tmp_path: Path) -> None:
    """They were 100 of 100 in the column of sigmoids, and certain wins in graded preferences."""
    made = save_reward_model(tmp_path / "pairs"), save_reward_model(tmp_path / "ratings", outputs=("help",))
    write_reward_file(LabelScaling(("help",), (0.0,), (25.0,), (50.0,), 20.0), made[1])
    pairs, ratings = (RewardFolder(str(folder)) for folder in made)
    assert pairs.log_odds
    assert pairs.oracle.log_odds
    assert not ratings.log_odds
    assert not ratings.oracle.log_odds
    points = WeightedAttributes(ratings, {"h": {"help": 1.0}})
    assert not points.log_odds
    ScorerJudge(pairs, graded=True).ready()
    ScorerJudge(points, Direction({"h": 0.05}), graded=True).ready()
    with pytest.warns(UserWarning, match=r"ScorerJudge.graded takes sigmoid.* WeightedAttributes are none: scale them"):
        ScorerJudge(points, graded=True).ready()
