"""Judge evaluation: subsets, canaries, agreement with people; response evaluation on canned scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from align.errors import ConfigError
from align.evaluation.completions import EvaluatedCompletion, EvaluationPrompt
from align.evaluation.judging import CANARIES, agreement, canary_accuracy, evaluate_judge, label_of
from align.evaluation.reward_evaluation import TOTAL, evaluate_responses
from align.evaluation.statistics import cohen_kappa
from align.judges.preference import Judge, Preference
from align.records import Message

NAN = math.nan


class Scripted(Judge):
    """Gives what it is told, item by item; known answers it judges by `good`."""

    name = "scripted"

    def __init__(self, outcomes: list[tuple[float, float]], good: float = 1.0) -> None:
        self.outcomes, self.good = outcomes, good
        self.asks_canaries = True

    def prefer(self, prompts: Any, first: Any, second: Any) -> list[Preference]:
        if prompts[0][0].content == CANARIES[0][0]:
            return [Preference(self.good, self.good if n else 0.0) for n in range(len(prompts))]
        return [Preference(*o) for o in self.outcomes]


def prompts(*subsets: str) -> list[EvaluationPrompt]:
    return [EvaluationPrompt((Message("user", f"q{n}"),), name, "reference") for n, name in enumerate(subsets)]


def test_subsets_and_canaries() -> None:
    judge = Scripted([(1, 1), (0, 0), (NAN, 1), (1, 0)])
    report = evaluate_judge(judge, prompts("x", "x", "y", "z"), ["a"] * 4, ["bb"] * 4)
    assert report.total.items == 3
    assert report.total.invalid == 1
    assert list(report.subsets) == ["x", "z"]  # y has no valid item
    assert report.subsets["x"].win_rate.value == 0.5
    assert report.canaries == pytest.approx(1 - 1 / len(CANARIES))  # the first falls for the order
    assert report.as_dict()["preferences"][0] == (1, 1)


def test_canaries_have_a_good_answer_first() -> None:
    assert canary_accuracy(Scripted([], good=0.0)) == 0
    assert len({question for question, *_ in CANARIES}) == len(CANARIES)


def test_no_valid_item_is_told() -> None:
    with pytest.raises(ConfigError, match="none of 1 items got a valid verdict"):
        evaluate_judge(Scripted([(NAN, NAN)]), prompts("x"), ["a"], ["b"])


def test_agreement_with_people() -> None:
    # judge: win, lose, tie, invalid, win; people: win, win, tie, win, none: 2 of 3 agree
    preferences = [Preference(*o) for o in ((1, 1), (0, 0), (1, 0), (NAN, 1), (1, 0.5))]
    assert [label_of(p) for p in preferences] == ["win", "lose", "tie", None, "win"]
    found = agreement(preferences, ["win", "win", "tie", "win", None])
    assert found.items == 3
    assert found.rate.value == pytest.approx(2 / 3)
    # by chance: win 1/3 * 2/3, tie 1/3 * 1/3, lose 1/3 * 0, so 1/3
    assert found.kappa.value == pytest.approx((2 / 3 - 1 / 3) / (1 - 1 / 3))
    assert found.decided.value == pytest.approx(1 / 2)  # the tie left out: win, win and lose, win
    assert found.left_out == 2
    with pytest.raises(ConfigError, match="no item has both"):
        agreement(preferences[:1], [None])


def test_kappa_is_cohens() -> None:
    draw = np.random.default_rng(1)
    known: list[Any] = draw.choice(["win", "tie", "lose"], size=60).tolist()
    asked = [name if draw.random() < 0.6 else "win" for name in known]
    outcome = {"win": Preference(1, 1), "tie": Preference(1, 0), "lose": Preference(0, 0)}
    found = agreement([outcome[name] for name in asked], known)
    assert found.kappa.value == pytest.approx(cohen_kappa(asked, known))
    assert found.kappa.low < found.kappa.value < found.kappa.high
    certain = agreement([outcome["win"]] * 3, ["win"] * 3)
    assert certain.rate.value == 1
    assert math.isnan(certain.kappa.value)


class Canned:
    attributes = ("help", "harm")

    def score(self, prompts: Any, responses: list[str]) -> torch.Tensor:
        return torch.tensor([[float(len(r)), NAN if r == "bad" else 0.0] for r in responses])


def test_rewards_are_averaged_within_a_prompt_first() -> None:
    """Two samples of the first prompt, one of the second: means 2 and 4, total 3; not (1 + 3 + 4) / 3."""
    completions = [
        EvaluatedCompletion(0, "a", [1], True),
        EvaluatedCompletion(0, "bad", [1, 2], True),
        EvaluatedCompletion(1, "dddd", [1], False),
    ]
    report = evaluate_responses(prompts("x", "y"), completions, {"rm": Canned()})
    assert report.rewards["rm/help"][TOTAL].raw.value == 3
    assert report.rewards["rm/help"]["x"].raw.value == 2
    assert report.rewards["rm/harm"][TOTAL].prompts == 1  # one text could not be read
    assert report.per_prompt["rm/help"] == [2, 4]
    assert report.text["finished"] == pytest.approx(2 / 3)
    assert report.text["mean_tokens"] == pytest.approx(4 / 3)
    assert "bleu_corpus" in report.text
    assert report.kl is None
