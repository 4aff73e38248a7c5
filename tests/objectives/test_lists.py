"""List and set objectives: worked numbers, loops over one list, reductions to DPO, symmetry, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from align.errors import DataError
from align.objectives.best_of_list import RRHF, BestOfNLikelihood
from align.objectives.list_sum import ListSum
from align.objectives.lists import LiPO, ListMLE, ListSoftmax
from align.objectives.pairwise import DPO
from align.objectives.ranking import PRO, RankingObjective
from align.objectives.ranking_metrics import ranking_metrics
from align.objectives.reward_values import Scaled, Sigmoid
from align.objectives.sets import NCA, InfoNCA, SetContrast
from align.records import ListScores, PairScores
from tests.formulas import lists as oracle
from tests.objectives.lists import gradient, lists_of, permuted, random_lists, zeros

SIZES = [3, 5, 2, 1, 4]
BETA = 0.3
LOG_RATIO = [
    ListMLE(BETA), ListSoftmax(BETA), LiPO(BETA), SetContrast(BETA), InfoNCA(BETA), NCA(BETA), InfoNCA(BETA, alpha=0.3),
]  # fmt: skip
BY_RANK = [*LOG_RATIO, RRHF(sft_weight=0), RRHF(length_power=0.5, sft_weight=0)]
EVERY = [*BY_RANK, RRHF(), PRO(), BestOfNLikelihood(), ListSum([PRO(), ListMLE(BETA)], [1.0, 0.5])]


def pair_scores(lists: ListScores) -> PairScores:
    return PairScores(*lists.logprobs.unbind(1), *lists.lengths.unbind(1))


class TestAgainstLoops:
    @pytest.fixture
    def case(self) -> tuple[ListScores, ListScores]:
        lists = random_lists(SIZES)
        lists.scores[1, 2] = lists.scores[1, 1]
        lists.ranks[1] = torch.tensor([0, 1, 1, 2, 3])
        return lists, random_lists(SIZES, seed=1)._replace(lengths=lists.lengths)

    @staticmethod
    def compare(objective: RankingObjective, case: tuple[ListScores, ListScores], expected) -> None:
        found, h = objective(*case), objective.rewards(*case)
        for row, n in enumerate(SIZES):
            value = expected(h[row, :n].tolist(), case[0].scores[row, :n].tolist())
            assert found[row].item() == pytest.approx(value, abs=1e-9), n

    def test_rrhf(self, case) -> None:
        self.compare(RRHF(sft_weight=0), case, oracle.rrhf)
        self.compare(RRHF(rank_weight=2.0, sft_weight=0, length_power=0.5), case, lambda s, r: 2 * oracle.rrhf(s, r))

    def test_lipo(self, case) -> None:
        self.compare(LiPO(BETA), case, oracle.lipo)
        logistic = lambda r: [1 / (1 + math.exp(-x)) for x in r]  # noqa: E731
        self.compare(LiPO(BETA, reward_transform=Sigmoid()), case, lambda s, r: oracle.lipo(s, logistic(r)))

    def test_softmax_and_its_kin(self, case) -> None:
        def soft(rewards: list[float], alpha: float) -> list[float]:
            total = sum(math.exp(r / alpha) for r in rewards)
            return [math.exp(r / alpha) / total for r in rewards]

        self.compare(ListSoftmax(BETA), case, lambda s, r: oracle.cross_entropy(s, [1.0] + [0.0] * (len(s) - 1)))
        self.compare(InfoNCA(BETA, alpha=0.5), case, lambda s, r: oracle.cross_entropy(s, soft(r, 0.5)))

        def nca(scores: list[float], rewards: list[float]) -> float:
            terms = zip(scores, soft(rewards, 1.0), strict=True)
            return sum(t * math.log1p(math.exp(-s)) + math.log1p(math.exp(s)) / len(scores) for s, t in terms)

        self.compare(NCA(BETA), case, nca)

    def test_set_contrast(self, case) -> None:
        self.compare(
            SetContrast(BETA, alpha=0.7),
            case,
            lambda s, r: oracle.set_contrast(s, r, 0.7) if len(s) > 1 else 0.0,
        )

    def test_plackett_luce(self) -> None:
        case = random_lists(SIZES), random_lists(SIZES, seed=1)
        self.compare(ListMLE(BETA), case, lambda s, r: oracle.plackett_luce(s))
        self.compare(ListMLE(BETA, "token"), case, lambda s, r: oracle.plackett_luce(s))


class TestReductions:
    @pytest.fixture
    def pairs(self) -> tuple[ListScores, ListScores]:
        return random_lists([2, 2, 2]), random_lists([2, 2, 2], seed=1)

    @pytest.mark.parametrize(
        "objective", [ListMLE(BETA), ListSoftmax(BETA), SetContrast(BETA, alpha=0), InfoNCA(BETA, alpha=1e-6)]
    )
    def test_two_responses_give_dpo(self, objective: RankingObjective, pairs) -> None:
        torch.testing.assert_close(objective(*pairs), DPO(BETA)(*map(pair_scores, pairs)))

    def test_lipo_of_two_is_dpo_times_a_constant(self, pairs) -> None:
        gains = 2 ** pairs[0].scores
        constant = (gains[:, 0] - gains[:, 1]) * (1 / math.log(2) - 1 / math.log(3))
        torch.testing.assert_close(LiPO(BETA)(*pairs), constant * DPO(BETA)(*map(pair_scores, pairs)))

    def test_pro_of_two_is_the_logistic_loss_of_means(self, pairs) -> None:
        means = PairScores(*pairs[0].means.unbind(1), *pairs[0].lengths.unbind(1))
        nothing = PairScores(*zeros(pairs[0]).logprobs.unbind(1), *pairs[0].lengths.unbind(1))
        torch.testing.assert_close(PRO(sft_beta=0, temperature="none")(pairs[0], pairs[0]), DPO(1.0)(means, nothing))

    def test_nca_of_two_is_trl_nca_pair(self, pairs) -> None:
        h = NCA(BETA).rewards(*pairs)
        logs = torch.nn.functional.logsigmoid
        expected = -logs(h[:, 0]) - 0.5 * logs(-h[:, 0]) - 0.5 * logs(-h[:, 1])
        torch.testing.assert_close(NCA(BETA, alpha=1e-6)(*pairs), expected)

    def test_infonca_tends_to_list_softmax(self) -> None:
        case = random_lists(SIZES), random_lists(SIZES, seed=1)
        torch.testing.assert_close(InfoNCA(BETA, alpha=1e-6)(*case), ListSoftmax(BETA)(*case))

    def test_pro_without_temperature_is_reference_free_listmle_of_means(self) -> None:
        lists = random_lists(SIZES)
        means = lists._replace(logprobs=lists.means)
        torch.testing.assert_close(PRO(sft_beta=0, temperature="none")(lists, lists), ListMLE(1.0)(means, zeros(means)))


class TestRRHF:
    def test_worked_number(self) -> None:
        # methods-preference 9: 0.2 + 0.7
        lists = lists_of([[-1.0, -0.8, -1.5]], [[3.0, 1.0, 2.0]])
        by_reward = permuted(lists, [0, 2, 1])
        assert RRHF(sft_weight=0)(by_reward, by_reward).item() == pytest.approx(0.9)
        assert RRHF()(by_reward, by_reward).item() == pytest.approx(0.9 + 1.0)

    def test_a_list_in_order_has_the_likelihood_gradient_only(self) -> None:
        lists = lists_of([[-1.0, -4.0, -9.0]], [[3.0, 2.0, 1.0]], [[2, 4, 3]])  # means -0.5, -1, -3
        assert RRHF().parts(lists, lists)["rank"].item() == 0
        assert gradient(RRHF(), lists).tolist() == [[-0.5, 0, 0]]
        assert gradient(RRHF(sft_reduction="sum"), lists).tolist() == [[-1, 0, 0]]

    def test_a_shift_of_all_scores_changes_nothing(self) -> None:
        lists = random_lists(SIZES)
        moved = lists._replace(logprobs=lists.logprobs + 0.7 * lists.lengths * lists.mask)
        torch.testing.assert_close(RRHF(sft_weight=0)(lists, lists), RRHF(sft_weight=0)(moved, moved))


class TestSymmetry:
    @pytest.mark.parametrize("objective", BY_RANK, ids=repr)
    def test_columns_may_stand_in_any_order(self, objective: RankingObjective) -> None:
        case = random_lists([4, 4]), random_lists([4, 4], seed=1)
        turned = [permuted(lists, [2, 0, 3, 1]) for lists in case]
        torch.testing.assert_close(objective(*turned), objective(*case))

    @pytest.mark.parametrize("objective", EVERY, ids=repr)
    def test_cells_without_a_candidate_do_not_count(self, objective: RankingObjective) -> None:
        wide, reference = random_lists([2, 5]), random_lists([2, 5], seed=1)
        alone, own = (ListScores(*(values[:1, :2] for values in lists)) for lists in (wide, reference))
        torch.testing.assert_close(objective(wide, reference)[:1], objective(alone, own))
        assert gradient(objective, wide, reference)[0, 2:].tolist() == [0, 0, 0]

    @pytest.mark.parametrize("objective", EVERY, ids=repr)
    def test_gradcheck(self, objective: RankingObjective) -> None:
        case = random_lists([3, 2, 4]), random_lists([3, 2, 4], seed=1)
        logprobs = case[0].logprobs.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda s: objective(case[0]._replace(logprobs=s), case[1]), (logprobs,))

    @pytest.mark.parametrize("objective", EVERY, ids=repr)
    def test_lists_of_one_and_of_equal_rewards_are_finite(self, objective: RankingObjective) -> None:
        lists = lists_of([[-1.0], [-1.0, -2.0]], [[0.5], [1.0, 1.0]])
        assert objective(lists, zeros(lists)).isfinite().all()
        assert gradient(objective, lists).isfinite().all()


def test_objectives_that_need_rewards_say_so() -> None:
    lists = random_lists([2])
    lists.scores[0, 1] = math.nan
    for objective in (LiPO(), SetContrast(), InfoNCA(), NCA()):
        with pytest.raises(DataError, match=f"{type(objective).__name__} needs a reward for every response"):
            objective(lists, lists)
    for objective in (ListMLE(), ListSoftmax(), RRHF(), PRO(), BestOfNLikelihood()):
        assert objective(lists, lists).isfinite().all()


def test_settings_out_of_range() -> None:
    for make, line in {
        lambda: ListMLE(0.0): "beta must be positive",
        lambda: SetContrast(alpha=-1.0): "alpha must not be negative",
        lambda: InfoNCA(alpha=0.0): "alpha must be positive",
        lambda: RRHF(rank_weight=-1.0): "rank_weight must not be negative",
        lambda: ListSum([PRO()], []): "of one length, got 1 and 0",
        lambda: ListSum([PRO(), BestOfNLikelihood()], [1, 1]): "same view",
        lambda: Scaled(-1.0): "scale must be positive",
    }.items():
        with pytest.raises(ValueError, match=line):
            make()


def test_a_sum_adds_up_and_joins_needs() -> None:
    case = random_lists(SIZES), random_lists(SIZES, seed=1)
    both = ListSum([RRHF(), ListMLE(BETA)], [2.0, 0.5])
    torch.testing.assert_close(both(*case), 2 * RRHF()(*case) + 0.5 * ListMLE(BETA)(*case))
    assert both.requires == {"reference"}
    assert ListSum([RRHF()], [1.0]).requires == frozenset()
    assert list(both.parts(*case)) == ["1_rrhf", "2_listmle"]


def test_metrics_of_a_tied_list() -> None:
    lists = lists_of([[-1.0, -2.0, -0.5]], [[2.0, 2.0, 0.0]])
    found = {name: values.item() for name, values in ranking_metrics(lists, lists.logprobs).items()}
    # pairs 1 > 3 and 2 > 3 are strictly ordered, both reversed; one pair of three is tied
    assert found["pro/kendall_tau"] == -1
    assert found["pro/frac_tied"] == pytest.approx(1 / 3)
    assert found["pro/gap_mean"] == pytest.approx(4 / 3)
    assert found["rewards/accuracies"] == 0
