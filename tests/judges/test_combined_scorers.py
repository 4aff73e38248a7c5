"""Win rates and ensembles against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from align.errors import ConfigError, DataError
from align.judges.endpoint import Endpoint
from align.judges.judge_prompts import JudgePrompt
from align.judges.language_judge import LanguageJudge
from align.judges.preference import GoldJudge, Judge, Preference, RewardJudge
from align.judges.win_rates import ScorerJudge, WinRates
from align.records import Message
from align.rewards.ensemble import RewardEnsemble
from align.rewards.scorers import Scorer
from align.world.gold_rewards import User
from tests.tiny import save_reward_model

ASK = (Message("user", "Which?"),)
CHANCES = {("a", "b"): 0.7, ("a", "c"): 0.9, ("b", "c"): 0.6, ("a", "x"): math.nan, ("b", "x"): math.nan}


class Table(Judge):
    """Prefers by a table."""

    name = "table"

    def prefer(self, prompts: Any, first: Sequence[str], second: Sequence[str]) -> list[Preference]:
        chances = [0.5 if a == b else CHANCES[a, b] for a, b in zip(first, second, strict=True)]
        return [Preference(p, p) for p in chances]


class Column(Scorer):
    """Scores by a table."""

    attributes = ("reward",)

    def __init__(self, **values: float) -> None:
        self.values = values

    @property
    def identity(self) -> str:
        return repr(self.values)

    def score(self, prompts: Any, responses: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[self.values[r]] for r in responses], dtype=torch.float64)


def test_win_rates_by_hand() -> None:
    """Of a: (.5 + .7 + .9) / 3; b: (.3 + .5 + .6) / 3; c: (.1 + .4 + .5) / 3. Another prompt stays apart."""
    other = (Message("user", "Why?"),)
    found = WinRates(Table()).score([ASK, other, ASK, other, ASK], ["a", "a", "b", "b", "c"])[:, 0]
    assert found.tolist() == pytest.approx([0.7, (0.5 + 0.7) / 2, 1.4 / 3, (0.5 + 0.3) / 2, 1 / 3])


def test_win_rates_of_many_prompts_take_no_table_of_all_their_responses() -> None:
    """60 prompts of three: no tensor is larger than the 180 rates; a table of all pairs of 1e5 responses took 80 GB."""

    class Largest(TorchDispatchMode):
        most = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            self.most = max(self.most, found.numel() if isinstance(found, torch.Tensor) else 0)
            return found

    with Largest() as largest:
        asked = [(Message("user", str(n // 3)),) for n in range(180)]
        found = WinRates(Table()).score(asked, ["a", "b", "c"] * 60)
    assert found.reshape(60, 3)[::59].tolist() == [pytest.approx([0.7, 1.4 / 3, 1 / 3])] * 2
    assert largest.most == 180


def test_equal_samples_count_as_often_as_they_were_drawn() -> None:
    """Of a among a, a, b: (.5 + .5 + .7) / 3; of b: (.3 + .3 + .5) / 3."""
    found = WinRates(Table()).score([ASK] * 3, ["a", "a", "b"])[:, 0]
    assert found.tolist() == pytest.approx([1.7 / 3, 1.7 / 3, 1.1 / 3])


def test_invalid_comparisons_are_left_out() -> None:
    found = WinRates(Table()).score([ASK] * 3, ["a", "b", "x"])[:, 0]
    assert found.tolist()[:2] == pytest.approx([(0.5 + 0.7) / 2, (0.5 + 0.3) / 2])
    assert math.isnan(found[2])


def test_a_scorer_as_judge() -> None:
    """sigmoid(2 - 1) = .731059."""
    scorer = Column(a=2.0, b=1.0, c=math.nan)
    plain = ScorerJudge(scorer).prefer([ASK] * 3, ["a", "b", "a"], ["b", "b", "c"])
    assert [p.probability for p in plain[:2]] == [1, 0.5]
    assert math.isnan(plain[2].probability)
    (graded,) = ScorerJudge(scorer, graded=True).prefer([ASK], ["b"], ["a"])
    assert graded.probability == pytest.approx(1 - 0.731059, abs=1e-6)
    assert WinRates(ScorerJudge(scorer)).identity != WinRates(ScorerJudge(scorer, graded=True)).identity
    with pytest.raises(ConfigError, match="needs a judge itself"):
        ScorerJudge(WinRates(Table()))


MEMBERS: dict[str, Scorer] = {"one": Column(a=1.0, b=2.0, c=6.0), "two": Column(a=3.0, b=2.0, c=math.nan)}


@pytest.mark.parametrize(
    ("combine", "options", "first", "second"),
    [
        ("mean", {}, 2.0, 2.0),
        ("mean", {"weights": {"one": 3.0, "two": 1.0}}, 1.5, 2.0),
        ("minimum", {}, 1.0, 2.0),
        ("mean_minus_variance", {"k": 0.5}, 2 - 0.5 * 1.0, 2.0),  # variance of 1 and 3 around 2
        # mean 1.5, variance (3 * .5^2 + 1.5^2) / 4 = .75
        ("mean_minus_variance", {"k": 2.0, "weights": {"one": 3.0, "two": 1.0}}, 1.5 - 2 * 0.75, 2.0),
        ("mean_minus_deviation", {"weights": {"one": 3.0, "two": 1.0}}, 1.5 - math.sqrt(0.75), 2.0),
    ],
)
def test_ensembles_by_hand(combine: Any, options: dict[str, Any], first: float, second: float) -> None:
    found = RewardEnsemble(MEMBERS, combine, **options).score([ASK] * 3, ["a", "b", "c"])
    assert found[:2, 0].tolist() == pytest.approx([first, second])
    assert found[0, 1:].tolist() == [1, 3]
    assert math.isnan(found[2, 0])


def test_members_are_put_on_one_scale_by_the_first_responses(tmp_path: Path) -> None:
    """One: 0 and 2, mean 1, deviation sqrt 2. Two: 100 and 300, mean 200, deviation 100 sqrt 2."""
    members = {"one": Column(a=0.0, b=2.0, c=3.0), "two": Column(a=300.0, b=100.0, c=400.0)}
    made = RewardEnsemble(members, "minimum", standardise="scales.json")
    assert made.score([ASK] * 2, ["a", "b"])[:, 0].tolist() == pytest.approx([-1 / math.sqrt(2)] * 2)
    assert json.loads((tmp_path / "scales.json").read_text())["two"] == pytest.approx([200, 100 * math.sqrt(2)])
    again = RewardEnsemble(members, "minimum", standardise="scales.json")  # another process goes on with the file
    assert again.score([ASK], ["c"])[0].tolist() == pytest.approx([math.sqrt(2)] * 3)
    with pytest.raises(DataError, match="one gives 1 responses one score"):
        RewardEnsemble(members, standardise="other.json").score([ASK], ["a"])
    (tmp_path / "scales.json").write_text('{"one": [0, 1]}')
    with pytest.raises(ConfigError, match="of every scorer"):
        again.score([ASK], ["c"])


def test_different_scales_are_told() -> None:
    members = {"one": Column(a=0.0, b=2.0), "two": Column(a=300.0, b=100.0)}
    with pytest.warns(UserWarning, match="members of different scales .one 1 ± 1.41, two 200 ± 141"):
        RewardEnsemble(members).score([ASK] * 2, ["a", "b"])


@pytest.mark.parametrize(
    ("combine", "options", "says"),
    [
        ("mean", {"k": 1.0}, "belongs to mean_minus"),
        ("minimum", {"weights": {"one": 1.0, "two": 2.0}}, "no effect on the minimum"),
        ("apart", {"weights": {"one": 1.0, "two": 2.0}}, "no effect on scores apart, which direction.weights weighs"),
        ("apart", {"k": 1.0}, "belongs to mean_minus"),
        ("mean", {"weights": {"one": 1.0}}, "name one, two"),
        ("mean", {"weights": {"one": 1.0, "two": 0.0}}, "must be positive"),
    ],
)
def test_settings_without_effect_are_refused(combine: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RewardEnsemble(MEMBERS, combine, **options)


def test_win_rates_of_different_judges_are_never_mistaken_for_each_other(tmp_path: Path) -> None:
    """Judges of one name that differ in a prompt, in how often they ask, in a folder's files, in an output."""
    save_reward_model(tmp_path / "rm", outputs=("a", "b"))
    folder = str(tmp_path / "rm")
    responder = Endpoint("http://localhost:1/v1", "m", api_key_env=None)
    (tmp_path / "own.jinja").write_text("{{ query }}{{ response_a }}{{ response_b }}")
    own = JudgePrompt(str(tmp_path / "own.jinja"), form="letter")

    def judges() -> list[Judge]:
        return [
            *(LanguageJudge(responder), LanguageJudge(responder, repeats=0), LanguageJudge(responder, own)),
            LanguageJudge(responder, JudgePrompt("pro")),
            LanguageJudge(responder, JudgePrompt("pro"), average_scores=True),
            *(RewardJudge(folder), RewardJudge(folder, 1), RewardJudge(folder, max_tokens=9)),
            *(GoldJudge(), GoldJudge(user=User(0.5))),
        ]

    found = [WinRates(judge).identity for judge in judges()]
    assert len(set(found)) == len(found)
    assert found == [WinRates(judge).identity for judge in judges()]
    save_reward_model(tmp_path / "rm", 1, outputs=("a", "b"))
    (tmp_path / "own.jinja").write_text("{{ query }}: {{ response_a }}{{ response_b }}")
    changed = [one != other for one, other in zip(found, (WinRates(j).identity for j in judges()), strict=True)]
    assert changed == [False, False, True, False, False, True, True, True, False, False]
    with pytest.raises(ConfigError, match="Table does not say what decides its preferences"):
        _ = WinRates(Table()).identity
