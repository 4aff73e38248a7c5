"""What an objective may read and has to return, and what becomes of infinite inputs; every expected value by hand."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from align.errors import ConfigError
from align.objectives.lists import ListSoftmax
from align.objectives.pairwise import DPO
from align.objectives.pointwise import KTO, PointwiseContext
from align.objectives.reference_free import SimPO
from align.objectives.reward import BradleyTerry, RankedRewards
from align.records import ListScores, PairScores, PointScores
from align.training.objective_call import ObjectiveCall, visible


def pair(groups: int) -> PairScores:
    chosen, lengths = -torch.arange(1.0, groups + 1), torch.full((groups,), 2)
    return PairScores(chosen, chosen - 1, lengths, lengths)


def points(candidates: int) -> PointScores:
    values = -torch.arange(1.0, candidates + 1)
    return PointScores(values, torch.full((candidates,), 2), (torch.arange(candidates) % 2).float())


def lists(groups: int) -> ListScores:
    values = -torch.arange(1.0, 3 * groups + 1).view(groups, 3)
    ranks = torch.arange(3).expand(groups, 3)
    return ListScores(values, torch.full((groups, 3), 2), torch.ones(groups, 3, dtype=torch.bool), ranks, values)


def rewards(groups: int) -> RankedRewards:
    scores = lists(groups)
    return RankedRewards(scores.logprobs, scores.ranks, scores.mask, scores.scores)


RECORDS = {
    "pairs": lambda n: (pair(n), pair(n)),
    "points": lambda n: (points(n), points(n), PointwiseContext(mismatched_kl=torch.tensor(0.0))),
    "lists": lambda n: (lists(n), lists(n)),
    "rewards": lambda n: (rewards(n),),
}
RIGHT = {"pairs": DPO(), "points": KTO(), "lists": ListSoftmax(), "rewards": BradleyTerry()}


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("kind", RECORDS)
class TestShape:
    def test_one_loss_a_group_is_passed_on(self, kind: str, groups: int) -> None:
        records = RECORDS[kind](groups)
        losses = ObjectiveCall()(RIGHT[kind], *records)
        torch.testing.assert_close(losses, RIGHT[kind](*records), rtol=0, atol=0)

    @pytest.mark.parametrize(
        "reduced",
        [
            lambda x: x.sum(),
            lambda x: x.mean(),
            lambda x: x.mean()[None],
            lambda x: x[:, None],
            lambda x: x.sum().item(),
        ],
        ids=["sum", "mean", "mean of shape [1]", "a column", "a number"],
    )
    def test_anything_else_is_refused(self, kind: str, groups: int, reduced) -> None:
        def wrong(*records) -> Tensor:
            return reduced(RIGHT[kind](*records))

        with pytest.raises(ConfigError, match=r"objective function returned .* expected one loss for each \(shape \["):
            ObjectiveCall()(wrong, *RECORDS[kind](groups))


def test_the_shape_is_looked_at_once() -> None:
    calls, call = [], ObjectiveCall()

    def counted(policy: PairScores, reference: PairScores) -> Tensor:
        calls.append(len(policy.chosen))
        return policy.chosen

    for groups in (2, 5):
        call(counted, pair(groups), pair(groups))
    assert calls == [2, 6, 5]  # the first batch, the same three times over, the second batch


def test_a_former_attribute_is_told_the_present_one() -> None:
    with pytest.raises(ConfigError, match="objective Old sets `needs`, which would be passed over: call it `requires`"):
        type("Old", (DPO,), {"needs": frozenset()})


class TestReference:
    def test_what_is_not_asked_for_cannot_be_read(self) -> None:
        unread = visible(SimPO(), pair(3))
        for read in (lambda x: -x, lambda x: x.shape, lambda x: 1.0 + x, lambda x: x[0], lambda x: x.sum(), torch.exp):
            with pytest.raises(
                ConfigError, match=r"SimPO reads the reference.*requires = frozenset\(\{'reference'\}\)"
            ):
                read(unread.chosen)
        assert unread.chosen_lengths.tolist() == [2, 2, 2]

    @pytest.mark.parametrize("record", [lists(2), points(2)])
    def test_lists_and_points_alike(self, record) -> None:
        hidden = visible(SimpleNamespace(requires=frozenset()), record)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="SimpleNamespace reads the reference's log-probabilities"):
            record.logprobs - hidden.logprobs

    def test_what_is_asked_for_is_there(self) -> None:
        assert visible(DPO(), pair(3)).chosen.tolist() == [-1, -2, -3]

    def test_objectives_without_a_reference_are_called_and_checked(self) -> None:
        losses = ObjectiveCall()(SimPO(), pair(2), visible(SimPO(), pair(2)))
        # margins 2 (-1/2 + 2/2) - 1 = 0 and 2 (-2/2 + 3/2) - 1 = 0
        torch.testing.assert_close(losses, torch.full((2,), math.log(2)))


class TestInfiniteInputs:
    @pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
    @pytest.mark.parametrize("place", [0, 1])
    def test_a_finite_loss_out_of_them_counts_as_not_finite(self, value: float, place: int) -> None:
        records = [lists(3), lists(3)]
        values = records[place].logprobs.clone()
        values[1, 2] = value
        records[place] = records[place]._replace(logprobs=values)
        losses = ObjectiveCall()(lambda policy, reference: torch.full_like(policy.logprobs[:, 0], 1e30), *records)
        assert losses.isnan().tolist() == [False, True, False]

    def test_a_missing_label_is_no_fault_and_an_infinite_one_is(self) -> None:
        records = lists(2)
        unlabelled = records._replace(scores=torch.full((2, 3), math.nan))
        assert ObjectiveCall()(RIGHT["lists"], unlabelled, records).isfinite().all()
        infinite = records._replace(scores=torch.tensor([[math.inf, 0, 0], [0, 0, 0]]))
        assert ObjectiveCall()(RIGHT["lists"], infinite, records).isnan().tolist() == [True, False]

    def test_a_run_leaves_such_a_step_out(self, model_folder: Path, pairs_file: Path, monkeypatch) -> None:
        from align.errors import TrainingError
        from tests.modules.fitting import fit, pairs_data
        from tests.modules.preference_runs import build

        module = build(model_folder, DPO())
        read = type(module)._read

        def infinite(self, *args, **options):
            scores = read(self, *args, **options)
            return scores._replace(logprobs=scores.logprobs * math.inf)

        monkeypatch.setattr(type(module), "_read", infinite)
        with pytest.raises(TrainingError, match="loss of optimiser step 1 is nan, expected a finite number"):
            fit(module, pairs_data(pairs_file), max_steps=1)


class TestLearningRates:
    """Of TRL's example commands (ORPO, CPO), SLiC-HF's paper, and SFTModule, from which the others do not differ."""

    @pytest.mark.parametrize(
        ("name", "rates"),
        [
            ("DPO", (5e-7, 1e-5)),
            ("SimPO", (5e-7, 1e-5)),
            ("ORPO", (8e-6, 8e-5)),
            ("CPO", (8e-6, 8e-5)),
            ("SLiC", (1e-5, 1e-4)),
            ("RewardWeighted", (2e-5, 2e-4)),
            ("PMPO", (8e-6, 8e-5)),
        ],
    )
    def test_the_objective_s_come_first(self, model_folder: Path, name: str, rates: tuple[float, float]) -> None:
        import importlib

        from tests.modules.preference_runs import build

        homes = ("pairwise", "reference_free", "scored", "pointwise")
        found = [vars(importlib.import_module(f"align.objectives.{home}")).get(name) for home in homes]
        objective = next(cls for cls in found if cls)
        assert build(model_folder, objective()).usual_rates == rates

    def test_a_sum_takes_the_lowest(self, model_folder: Path) -> None:
        from align.objectives.reference_free import CPO, ChosenLikelihood
        from align.objectives.sums import PairSum, PairTerm

        assert PairSum([PairTerm(CPO()), PairTerm(ChosenLikelihood())]).learning_rates == (8e-6, 8e-5)
        assert PairSum([PairTerm(DPO()), PairTerm(ChosenLikelihood())]).learning_rates is None
