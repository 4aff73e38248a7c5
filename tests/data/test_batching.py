"""Batches, their order over epochs, ranks and resumes, and the totals that make accumulation exact."""

from __future__ import annotations

from collections import Counter

import datasets
import numpy as np
import pytest

from align.data.batching import Batching, FixedSize, TokenBudget
from align.data.groups import EncodedGroups, Table
from align.data.loader import BatchLoader, BatchOrder, Share
from align.errors import ConfigError, ResumeError
from align.records import EncodedGroup


def groups(count: int, repeats: tuple[float, ...] = (1.0,), seed: int = 0) -> EncodedGroups:
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        lengths = draw.integers(1, 40, size=3)
        rows.append(
            EncodedGroup(
                f"g{i}", [3] * int(lengths[0]), [[4] * int(n) for n in lengths[1:]], [0, 1], [[], []], 1.0, [False] * 2
            )
        )
    table = datasets.Dataset.from_list([g._asdict() for g in rows])
    size = count // len(repeats)
    parts = [table.select(range(i * size, (i + 1) * size)) for i in range(len(repeats))]
    return EncodedGroups([Table(part) for part in parts], repeats)


def order(
    data: EncodedGroups, batching: Batching, epoch: int = 0, share: Share = Share(), seed: int = 0, shuffle: bool = True
) -> BatchOrder:
    made = BatchOrder(data, batching, seed, shuffle=shuffle, share=share)
    made.set_epoch(epoch)
    return made


@pytest.mark.parametrize(
    "batching", [TokenBudget(tokens=200), FixedSize(groups=7), TokenBudget(tokens=200, group_by_length=False)]
)
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_group_once_in_every_epoch_over_all_ranks(batching: Batching, world: int) -> None:
    data = groups(101)
    counts = set()
    for epoch in range(3):
        ranks = [list(order(data, batching, epoch, Share(rank, world))) for rank in range(world)]
        counts |= {len(plans) for plans in ranks}
        seen = Counter(i for plans in ranks for plan in plans for i in plan.indices)
        assert seen == Counter(range(101))
    assert len(counts) == 1  # the same number of batches in every epoch and on every rank
    assert counts == {len(order(data, batching, share=Share(0, world)))}


def test_token_budget_is_kept_and_a_longer_group_stands_alone() -> None:
    data = groups(200)
    tokens = data.prompt_tokens + data.response_tokens
    for batch in order(data, TokenBudget(tokens=100)).batches():
        assert len(batch) == 1 or tokens[batch].sum() <= 100


def test_grouping_by_length_pads_less() -> None:
    data = groups(800)
    tokens = data.prompt_tokens + data.response_tokens

    def padded(batching: Batching) -> float:
        return sum(len(b) * tokens[b].max() for b in order(data, batching).batches()) / tokens.sum()

    assert padded(FixedSize(groups=8)) < 1.1
    assert padded(FixedSize(groups=8, group_by_length=False)) > 1.3


def test_order_is_a_function_of_seed_and_epoch() -> None:
    data = groups(60)
    batching = TokenBudget(tokens=150)
    assert list(order(data, batching, 1)) == list(order(data, batching, 1))
    assert order(data, batching, 0).batches() != order(data, batching, 1).batches()
    assert order(data, batching, 0).batches() != order(data, batching, 0, seed=1).batches()
    unshuffled = order(data, FixedSize(groups=6, group_by_length=False), 5, shuffle=False)
    assert [i for plan in unshuffled for i in plan.indices] == list(range(60))


@pytest.mark.parametrize(("accumulate", "world"), [(1, 1), (3, 1), (2, 2), (4, 3), (None, 2)])
def test_totals_add_up_over_the_micro_batches_of_a_step(accumulate: int | None, world: int) -> None:
    data = groups(50)
    ranks = [list(order(data, FixedSize(groups=4), share=Share(r, world, accumulate))) for r in range(world)]
    steps = len(ranks[0]) if accumulate is None else accumulate
    for first in range(0, len(ranks[0]), steps):
        window = [plan for plans in ranks for plan in plans[first : first + steps]]
        indices = [i for plan in window for i in plan.indices]
        expected = (len(indices), data.response_tokens[indices].sum(), (data.prompt_tokens[indices] - 1).sum())
        assert all(tuple(plan.totals[:3]) == expected for plan in window)


def test_weights_repeat_sources_and_rotate_fractions() -> None:
    data = groups(40, (2.0, 0.5))
    seen = [Counter(i for plan in order(data, FixedSize(groups=4), epoch) for i in plan.indices) for epoch in range(2)]
    for counts in seen:
        assert all(counts[i] == 2 for i in range(20))
        assert sum(counts[i] for i in range(20, 40)) == 10
    assert seen[0] != seen[1]


def test_more_processes_than_groups_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 groups of data cannot fill 4 batches"):
        order(groups(3), FixedSize(groups=1), share=Share(0, 4)).batches()


@pytest.mark.parametrize("settings", [{"tokens": 0}, {"tokens": -5}])
def test_budgets_must_be_positive(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"batching\.tokens"):
        TokenBudget(**settings)
    with pytest.raises(ConfigError, match=r"batching\.groups"):
        FixedSize(groups=0)


class TestResume:
    def loader(self, fingerprint: str = "f", workers: int = 0) -> BatchLoader:
        return BatchLoader(order(groups(40), FixedSize(groups=4)), fingerprint, workers)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_goes_on_after_the_batches_handed_over(self, workers: int) -> None:
        whole = [batch.ids for batch in self.loader()]
        first = self.loader(workers=workers)
        batches = iter(first)
        handed = [next(batches).ids for _ in range(3)]
        state = first.state_dict()
        second = self.loader(workers=workers)
        second.load_state_dict(state)
        assert handed + [batch.ids for batch in second] == whole
        assert len(second) == len(whole)

    def test_a_finished_epoch_is_followed_by_a_whole_one(self) -> None:
        first = self.loader()
        list(first)
        second = self.loader()
        second.load_state_dict(first.state_dict())
        second.sampler.set_epoch(1)
        assert len(list(second)) == len(first)

    def test_other_data_is_refused_by_name(self) -> None:
        state = self.loader().state_dict()
        with pytest.raises(ResumeError, match="fingerprint was 'f' in the checkpoint and is 'g' now"):
            self.loader("g").load_state_dict(state)
