"""PRO: the specification's worked numbers and properties, a loop over its terms, and the published loss."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from align.errors import DataError
from align.objectives.ranking import PRO
from align.objectives.reward_values import Clipped, Scaled, Sigmoid, ZScore
from align.records import ListScores
from tests.formulas.lists import pro, released_pro
from tests.objectives.lists import gradient, lists_of, permuted, random_lists, zeros

S, R = [-1.0, -1.5, -0.8], [2.0, 1.0, -1.0]
BARE = PRO(sft_beta=0)


def loss(objective: PRO, scores: list[float], rewards: list[float]) -> float:
    lists = lists_of([scores], [rewards])
    return objective(lists, zeros(lists)).item()


class TestWorkedNumbers:
    """methods-preference 4.3, 4.9 and 4.10."""

    def test_dynamic_temperature(self) -> None:
        lists = lists_of([S], [R])
        parts = BARE.parts(lists, lists)
        assert parts["pro_k1"].item() == pytest.approx(1.988396, abs=1e-6)
        assert parts["pro_k2"].item() == pytest.approx(1.620417, abs=1e-6)
        assert parts["pro"].item() == pytest.approx(3.608813, abs=1e-6)
        assert gradient(BARE, lists)[0].tolist() == pytest.approx([-2.589255, -0.990758, 2.352793], abs=1e-6)

    def test_no_temperature(self) -> None:
        plain = PRO(sft_beta=0, temperature="none")
        parts = plain.parts(lists_of([S], [R]), lists_of([S], [R]))
        assert [parts[f"pro_k{k}"].item() for k in (1, 2)] == pytest.approx([1.039546, 1.103186], abs=1e-6)
        assert gradient(plain, lists_of([S], [R]))[0].tolist() == pytest.approx(
            [-0.646385, -0.453709, 1.100094], abs=1e-6
        )

    def test_first_term_and_sft_term(self) -> None:
        assert loss(PRO(sft_beta=0, only_first_term=True), S, R) == pytest.approx(1.988396, abs=1e-6)
        # |y1| = 60 tokens of mean -1: 3.608813 + 0.05 * (3 - 1)^2 * 60
        long = lists_of([[-60.0, -1.5, -0.8]], [R], [[60, 1, 1]])
        assert PRO()(long, long).item() == pytest.approx(15.608813, abs=1e-6)
        assert PRO(sft_reduction="token_mean")(long, long).item() == pytest.approx(3.808813, abs=1e-6)
        # with s the sum: tau_1 = (3; 1, 3), so L_1 = log(e^-180 + e^-1.5 + e^-2.4) + 180
        first = math.log(math.exp(-1.5) + math.exp(-2.4)) + 180
        assert PRO(sft_beta=0, score="sum")(long, long).item() == pytest.approx(first + 1.620417, abs=1e-6)

    def test_ties(self) -> None:
        assert loss(BARE, S, [2, 2, 0]) == pytest.approx(3.911019, abs=1e-6)
        assert loss(PRO(sft_beta=0, ties="mask"), S, [2, 2, 0]) == pytest.approx(0.913015 + 1.620417, abs=1e-6)

    def test_all_tied(self) -> None:
        tied = lists_of([S], [[2, 2, 2]])
        assert BARE(tied, tied).item() == pytest.approx(1.098612 + 0.693147, abs=1e-6)
        assert gradient(BARE, tied).tolist() == [[0, 0, 0]]
        assert PRO(sft_beta=0, ties="mask")(tied, tied).item() == 0

    def test_the_floor_of_the_released_code(self) -> None:
        lists = lists_of([[-3.0, -3.2]], [[10.0, 0.0]])
        assert BARE(lists, lists).item() == pytest.approx(0.126928, abs=1e-6)
        assert gradient(BARE, lists)[0].tolist() == pytest.approx([-1.192, 1.192], abs=1e-3)
        floored = PRO(sft_beta=0, eps=1e-10)
        assert floored(lists, lists).item() == pytest.approx(6.975211, abs=1e-6)
        assert gradient(floored, lists)[0].tolist() == pytest.approx([-9.9907, 0.00127], abs=1e-4)

    def test_pairs(self) -> None:
        assert loss(PRO(sft_beta=0, temperature="none"), [-1.2, -0.9], [1, 0]) == pytest.approx(0.854355, abs=1e-6)
        assert loss(BARE, [-1.2, -0.9], [2.5, 0]) == pytest.approx(1.136871, abs=1e-6)

    def test_weight_of_the_sft_term(self) -> None:
        for n, beta in {2: 0.05, 3: 0.20, 4: 0.45, 5: 0.80}.items():
            lists = random_lists([n])
            parts = PRO().parts(lists, lists)
            assert parts["sft"].item() == pytest.approx(beta * parts["sft_nll"].item())
            assert parts["sft_nll"].item() == pytest.approx(-lists.logprobs[0, 0].item())


class TestProperties:
    def test_probabilities_of_all_orders_add_up_to_one(self) -> None:
        plain = PRO(sft_beta=0, temperature="none")
        scores = [-0.3, -1.2, -0.7, -2.0]
        total = sum(math.exp(-loss(plain, list(order), [4, 3, 2, 1])) for order in itertools.permutations(scores))
        assert total == pytest.approx(1)

    def test_shifts_and_scales(self) -> None:
        plain = PRO(sft_beta=0, temperature="none")
        lower = [s - 1 for s in S]
        assert loss(plain, lower, R) == pytest.approx(loss(plain, S, R))
        assert loss(BARE, lower[:2], R[:2]) == pytest.approx(loss(BARE, S[:2], R[:2]))
        assert loss(BARE, lower, R) == pytest.approx(5.202201, abs=1e-6)  # not invariant from three on
        assert loss(BARE, S, [r + 7 for r in R]) == pytest.approx(loss(BARE, S, R))
        assert loss(BARE, S, [2 * r for r in R]) == pytest.approx(6.053848, abs=1e-6)
        assert loss(PRO(sft_beta=0, reward_transform=Scaled(2.0)), S, R) == pytest.approx(6.053848, abs=1e-6)

    def test_first_term_is_all_there_is_of_a_pair(self) -> None:
        pairs = random_lists([2, 2, 2])
        torch.testing.assert_close(PRO(only_first_term=True)(pairs, pairs), PRO()(pairs, pairs))

    @pytest.mark.parametrize("options", [{}, {"temperature": "none"}, {"ties": "mask"}])
    def test_equals_a_loop_whatever_shares_the_batch(self, options: dict) -> None:
        lists = random_lists([3, 5, 2, 1, 4])
        lists.scores[1, 2] = lists.scores[1, 1]
        lists.ranks[1] = torch.tensor([0, 1, 1, 2, 3])
        for objective in (PRO(sft_beta=0, **options), PRO(sft_beta=0, on_unsorted="sort", **options)):
            for row, n in enumerate([3, 5, 2, 1, 4]):
                expected = pro(
                    lists.means[row, :n].tolist(),
                    lists.scores[row, :n].tolist(),
                    dynamic="temperature" not in options,
                    mask_ties="ties" in options,
                )
                assert objective(lists, lists)[row].item() == pytest.approx(expected, abs=1e-9)

    def test_padding_and_masked_candidates_have_no_gradient(self) -> None:
        lists = random_lists([2, 4])
        found = gradient(PRO(), lists)
        assert found[0, 2:].tolist() == [0, 0]
        assert (found[1] != 0).all()
        one = random_lists([1, 3])
        assert PRO()(one, one)[0].item() == 0
        assert gradient(PRO(), one)[0].tolist() == [0, 0, 0]

    def test_huge_gaps_stay_finite(self) -> None:
        lists = lists_of([[-900.0, -1000.0, -1.0]], [[1e4, 0.0, -1e4]])
        for objective in (PRO(), PRO(eps=1e-10), PRO(ties="mask")):
            assert objective(lists, lists).isfinite().all()
            assert gradient(objective, lists).isfinite().all()

    @pytest.mark.parametrize(
        "objective",
        [PRO(), PRO(ties="mask"), PRO(eps=1e-3), PRO(temperature="none"), PRO(score="sum", only_first_term=True)],
    )
    def test_gradcheck(self, objective: PRO) -> None:
        lists = random_lists([3, 2, 4])
        logprobs = lists.logprobs.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda s: objective(lists._replace(logprobs=s), lists), (logprobs,))


class TestOrder:
    def test_rising_rewards(self) -> None:
        unsorted = lists_of([S], [[1.0, 2.0, -1.0]])
        with pytest.raises(DataError, match="rewards rise along a list"):
            BARE(unsorted, unsorted)
        by_reward = permuted(unsorted, [1, 0, 2])
        by_sorting = PRO(sft_beta=0, on_unsorted="sort")
        torch.testing.assert_close(by_sorting(unsorted, unsorted), BARE(by_reward, by_reward))
        clamped = PRO(sft_beta=0, on_unsorted="clamp0")(unsorted, unsorted)
        # k=1: gaps 1 - 2 -> 0 and 2; k=2: gap 3
        first = math.log(math.exp(-2.0) + 1 + math.exp(2 * -0.8)) + 2
        second = math.log(math.exp(-4.5) + math.exp(-2.4)) + 4.5
        assert clamped.item() == pytest.approx(first + second)

    def test_the_response_people_chose_can_be_the_target(self) -> None:
        """In the order of the labels, sorted by the loss: the first response is the labels' choice."""
        labelled = lists_of([S], [[1.0, 2.0, -1.0]])
        parts = {t: PRO(on_unsorted="sort", sft_target=t).parts(labelled, labelled) for t in ("best", "first")}
        assert parts["best"]["sft_nll"].item() == 1.5
        assert parts["first"]["sft_nll"].item() == 1.0
        torch.testing.assert_close(parts["best"]["pro"], parts["first"]["pro"])

    def test_records_without_rewards_have_temperature_one(self) -> None:
        lists = random_lists([3, 3])
        lists.scores[0, 1] = math.nan
        mixed = BARE(lists, lists)
        plain = PRO(sft_beta=0, temperature="none")
        ranked = random_lists([3, 3])
        torch.testing.assert_close(mixed[0], plain(ranked, ranked)[0])
        torch.testing.assert_close(mixed[1], BARE(ranked, ranked)[1])
        assert gradient(BARE, lists).isfinite().all()

    def test_settings_out_of_range(self) -> None:
        for name in ("sft_beta", "tie_eps", "eps"):
            with pytest.raises(ValueError, match=f"{name} must not be negative"):
                PRO(**{name: -1.0})


class TestRewardTransforms:
    def test_values(self) -> None:
        rewards, mask = torch.tensor([[2.0, 1.0, -1.0]]), torch.ones(1, 3, dtype=torch.bool)
        assert Sigmoid(2.0)(rewards, mask)[0].tolist() == pytest.approx([1.761594, 1.462117, 0.537883], abs=1e-6)
        standard = ZScore(3.0)(rewards, mask)[0]
        assert (standard.mean().item(), standard.std(correction=0).item()) == (
            pytest.approx(0, abs=1e-6),
            pytest.approx(3),
        )
        assert ZScore()(torch.ones(1, 3), mask).tolist() == [[0, 0, 0]]
        assert Clipped(2.0, limit=1.5)(rewards, mask).tolist() == [[1.5, 1.5, -1.5]]

    def test_padding_does_not_move_a_z_score(self) -> None:
        both = random_lists([2, 5])
        alone = ListScores(*(values[:1, :2] for values in both))
        objective = PRO(reward_transform=ZScore())
        torch.testing.assert_close(objective(both, both)[0], objective(alone, alone)[0])

    def test_settings_out_of_range(self) -> None:
        with pytest.raises(ValueError, match="scale must be positive"):
            Scaled(0.0)
        with pytest.raises(ValueError, match="limit must be positive"):
            Clipped(limit=-1.0)


def test_equals_the_published_loss_on_the_same_tensors() -> None:
    """eps 1e-10 is the only difference in the loss itself; gaps are large enough here for it to bite."""
    torch.manual_seed(0)
    tokens = [
        [(-4 * torch.rand(n, dtype=torch.float64)).requires_grad_() for n in row] for row in ((7, 3, 5), (2, 9, 4))
    ]
    rewards = torch.tensor([[30.0, 2.0, -1.0], [1.5, 1.5, 0.2]], dtype=torch.float64)
    theirs = released_pro(tokens, rewards, sft_weight=0.05)
    leaves = [t for row in tokens for t in row]
    expected = torch.autograd.grad(theirs, leaves)
    lists = ListScores(
        torch.stack([torch.stack([t.sum() for t in row]) for row in tokens]),
        torch.tensor([[len(t) for t in row] for row in tokens]),
        torch.ones(2, 3, dtype=torch.bool),
        torch.tensor([[0, 1, 2], [0, 0, 1]]),
        rewards,
    )
    ours = PRO(eps=1e-10)(lists, lists).mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    for mine, other in zip(torch.autograd.grad(ours, leaves), expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-14)
    exact = PRO()(lists, lists).mean()
    assert abs(exact.item() - theirs.item()) > 0.1  # the floor
