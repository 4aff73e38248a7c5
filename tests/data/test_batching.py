"""Steps, their order over epochs and resumes, how they are cut and dealt, and the totals of their losses."""

from __future__ import annotations

from collections import Counter

import datasets
import numpy as np
import pytest

from align.data.batching import Batching
from align.data.encoded_groups import EncodedGroups, GroupTable
from align.data.loader import BatchLoader
from align.data.order import BatchPlan, DistributedShard, StepOrder
from align.data.pass_order import PassOrder
from align.errors import ConfigError, ResumeError
from align.records import EncodedGroup, RowLayout

ALL = 10**9


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
    return EncodedGroups([GroupTable(part) for part in parts], repeats)


def order(
    data: EncodedGroups, step: int, batching: Batching = Batching(tokens=ALL), epoch: int = 0, **options: object
) -> StepOrder:
    made = StepOrder(
        data, batching, options.pop("seed", 0), step, share=options.pop("share", DistributedShard()), **options
    )  # type: ignore[arg-type]
    made.set_epoch(epoch)
    return made


def counted(plans: list[BatchPlan]) -> list[int]:
    return [i for plan in plans if not plan.padding for i in plan.indices]


@pytest.mark.parametrize("tokens", [64, 200, ALL])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_steps_are_the_same_for_any_budget_and_number_of_ranks(tokens: int, world: int) -> None:
    """Every group once in every epoch; the last step has what is left."""
    data = groups(101)
    for epoch in range(3):
        expected = [sorted(step) for step in order(data, 16, epoch=epoch).batches()]
        assert [len(step) for step in expected] == [16] * 6 + [5]
        assert sorted(i for step in expected for i in step) == list(range(101))
        ranks = [
            list(order(data, 16, Batching(tokens=tokens), epoch, share=DistributedShard(rank, world)))
            for rank in range(world)
        ]
        assert [len(plans) for plans in ranks] == [7] * world
        found = [sorted(i for rank in ranks for i in counted(rank[n])) for n in range(7)]
        assert found == expected
        assert all(len({len(rank[n]) for rank in ranks}) == 1 for n in range(7))  # as many micro-batches on each


def test_token_budget_is_kept_and_a_longer_group_stands_alone() -> None:
    data = groups(200)
    tokens = data.prompt_tokens + data.response_tokens
    for step in order(data, 64, Batching(tokens=100)):
        for plan in step:
            assert len(plan.indices) == 1 or tokens[plan.indices].sum() <= 100


def test_ranks_get_about_as_many_tokens_at_once() -> None:
    data = groups(200)
    tokens = data.prompt_tokens + data.response_tokens
    for budget in (300, ALL):
        ranks = [list(order(data, 64, Batching(tokens=budget), share=DistributedShard(rank, 2))) for rank in range(2)]
        for one, two in zip(*ranks, strict=True):
            assert not any(plan.padding for plan in (*one, *two))
            for here, there in zip(one, two, strict=True):
                assert abs(tokens[here.indices].sum() - tokens[there.indices].sum()) < 100


def test_grouping_by_length_pads_less() -> None:
    data = groups(800)
    tokens = data.prompt_tokens + data.response_tokens

    def padded(batching: Batching) -> float:
        batches = [plan.indices for step in order(data, 64, batching, layout=RowLayout("shared")) for plan in step]
        return sum(len(b) * tokens[b].max() for b in batches) / tokens.sum()

    assert padded(Batching(tokens=500)) < 1.1
    assert padded(Batching(tokens=500, group_by_length=False)) > 1.3


def test_order_is_a_function_of_seed_and_epoch() -> None:
    data = groups(60)
    batching = Batching(tokens=150)
    assert list(order(data, 8, batching, 1)) == list(order(data, 8, batching, 1))
    assert order(data, 8, epoch=0).batches() != order(data, 8, epoch=1).batches()
    assert order(data, 8).batches() != order(data, 8, seed=1).batches()
    repeated = order(data, 8, epoch=1)
    repeated.repeats = True  # trainer.overfit_batches
    assert repeated.batches() == order(data, 8, epoch=0).batches()
    unshuffled = PassOrder(data, Batching(tokens=150, group_by_length=False), share=DistributedShard())
    unshuffled.set_epoch(5)
    assert [i for plan in unshuffled for i in plan.indices] == list(range(60))


@pytest.mark.parametrize(("step", "world"), [(1, 1), (12, 1), (16, 2), (48, 3), (None, 2)])
def test_totals_are_those_of_the_whole_step(step: int | None, world: int) -> None:
    data = groups(50)
    batching = Batching(tokens=200)
    if step is None:
        windows = [[plan for r in range(world) for plan in PassOrder(data, batching, share=DistributedShard(r, world))]]
    else:
        ranks = [list(order(data, step, batching, share=DistributedShard(r, world))) for r in range(world)]
        windows = [[plan for rank in ranks for plan in rank[n]] for n in range(len(ranks[0]))]
    for window in windows:
        indices = counted(window)
        expected = (len(indices), data.response_tokens[indices].sum(), (data.prompt_tokens[indices] - 1).sum())
        assert all(tuple(plan.totals[:3]) == expected for plan in window)
        assert {plan.totals.group_candidates for plan in window} == {2}


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("limit", [3, 0.4, 1.0, 1000])
def test_a_limited_pass_is_over_groups_of_all_lengths(limit: float, world: int) -> None:
    """Padded rows are sorted by length; the first three batches of eighteen had rows of a third of the mean length."""
    data, batching, layout = groups(200), Batching(tokens=900), RowLayout("padded")
    passes = [
        PassOrder(data, batching, limit=limit, share=DistributedShard(r, world), layout=layout) for r in range(world)
    ]
    count = len(passes[0])
    kept = min(limit, count) if isinstance(limit, int) else int(limit * count)
    computed = [plan for order in passes for plan in list(order)[:kept]]
    indices = counted(computed)
    assert {len(order) for order in passes} == {count}
    assert sorted(i for order in passes for plan in order for i in plan.indices) == list(range(200))
    totals = (len(indices), data.response_tokens[indices].sum(), (data.prompt_tokens[indices] - 1).sum())
    assert all(tuple(plan.totals[:3]) == totals for plan in computed)
    assert data.response_tokens[indices].mean() == pytest.approx(data.response_tokens.mean(), rel=0.15)


def test_weights_repeat_sources_and_rotate_fractions() -> None:
    data = groups(40, (2.0, 0.5))
    seen = [Counter(i for step in order(data, 4, epoch=epoch).batches() for i in step) for epoch in range(2)]
    for counts in seen:
        assert all(counts[i] == 2 for i in range(20))
        assert sum(counts[i] for i in range(20, 40)) == 10
    assert seen[0] != seen[1]


def test_a_process_without_a_group_takes_part_with_padding() -> None:
    """One group to a step and three ranks; the other two compute it and count nothing."""
    data = groups(3)
    ranks = [list(order(data, 1, share=DistributedShard(rank, 3))) for rank in range(3)]
    for step in zip(*ranks, strict=True):
        assert [plan.padding for (plan,) in step] == [False, True, True]
    (batch,) = next(iter(BatchLoader(order(data, 1, share=DistributedShard(1, 3)), "f")))
    assert batch.padding
    assert not batch.weights.any()
    assert batch.totals.weight == 1


@pytest.mark.parametrize("tokens", [64, ALL])
def test_every_rank_knows_the_largest_share_of_a_step_and_its_tokens(tokens: int) -> None:
    """Counted over what each of three ranks computes, padding too; steps of one group leave two with nothing else."""
    data = groups(21)
    for size in (1, 10):
        ranks = [list(order(data, size, Batching(tokens=tokens), share=DistributedShard(n, 3))) for n in range(3)]
        for step in zip(*ranks, strict=True):
            shares = [[i for plan in plans for i in plan.indices] for plans in step]
            lengths = [sum(len(ids) for i in share for ids in data[[i]][0].response_ids) for share in shares]
            told = {(plan.totals.rank_groups, plan.totals.rank_tokens) for plans in step for plan in plans}
            assert told == {(max(map(len, shares)), max(lengths))}
            read = [i for plans in step for plan in plans if not plan.padding for i in plan.indices]
            texts = (ids for i in read for ids in [*data[[i]][0].prompts, *data[[i]][0].response_ids])
            assert {plan.totals.tokens for plans in step for plan in plans} == {sum(map(len, texts))}


def test_evaluation_with_more_processes_than_groups_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 groups of data cannot fill 4 batches"):
        PassOrder(groups(3), Batching(tokens=1), share=DistributedShard(0, 4)).batches()


def test_evaluation_of_groups_that_stand_alone_goes_on_with_padding() -> None:
    """Five groups beyond the budget on two processes make six batches; they were refused as too few."""
    data = groups(5)
    plans = [list(PassOrder(data, Batching(tokens=1), share=DistributedShard(rank, 2))) for rank in range(2)]
    assert [plan.padding for plan in plans[1]] == [False, False, True]
    assert sorted(counted(plans[0]) + counted(plans[1])) == list(range(5))
    assert {plan.totals.weight for rank in plans for plan in rank} == {5}


@pytest.mark.parametrize("tokens", [100, ALL])
def test_responses_of_others_are_the_same_for_any_budget(tokens: int) -> None:
    """Each group reads the one before it in the step, whatever is computed together."""
    data = groups(20)
    wanted = order(data, 8)
    found = order(data, 8, Batching(tokens=tokens), others=True)
    for step, plans in zip(wanted.batches(), found, strict=True):
        pairs = {i: other for plan in plans for i, other in zip(plan.indices, plan.others, strict=True)}
        assert pairs == {i: step[n - 1] for n, i in enumerate(step)}
    step = next(iter(BatchLoader(found, "f")))
    for batch in step:
        assert batch.foreign is not None
        assert len(batch.foreign.lengths) == batch.num_candidates
        assert len(batch.foreign.ids) == sum(batch.foreign.lengths)


@pytest.mark.parametrize("settings", [{"tokens": 0}, {"tokens": -5}])
def test_budgets_must_be_positive(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"batching\.tokens"):
        Batching(**settings)
    with pytest.raises(ConfigError, match=r"batching\.groups"):
        Batching(groups=0)


class TestResume:
    def loader(self, fingerprint: str = "f", workers: int = 0, step: int = 4, tokens: int = 150) -> BatchLoader:
        return BatchLoader(order(groups(40), step, Batching(tokens=tokens, num_workers=workers)), fingerprint)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_goes_on_after_the_batches_handed_over(self, workers: int) -> None:
        whole = [step.ids for step in self.loader()]
        first = self.loader(workers=workers)
        batches = iter(first)
        handed = [next(batches).ids for _ in range(3)]
        state = first.state_dict()
        second = self.loader(workers=workers)
        second.load_state_dict(state)
        assert handed + [step.ids for step in second] == whole
        assert len(second) == len(whole) == 10

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

    def test_other_steps_are_refused_and_another_budget_is_told(self) -> None:
        state = self.loader().state_dict()
        with pytest.raises(ResumeError, match="groups_per_step was 4 in the checkpoint and is 5 now"):
            self.loader(step=5).load_state_dict(state)
        with pytest.warns(UserWarning, match=r"batching\.tokens was 150 in the checkpoint and is 75 now"):
            self.loader(tokens=75).load_state_dict(state)

    def test_another_layout_is_told_and_goes_on_with_the_same_steps(self) -> None:
        first = self.loader()
        whole, state = [sorted(step.ids) for step in first], self.loader().state_dict() | {"batches": 3}
        second = BatchLoader(order(groups(40), 4, Batching(tokens=150), layout=RowLayout("padded")), "f")
        with pytest.warns(UserWarning, match=r"layout of batches was packed in the checkpoint and is padded now"):
            second.load_state_dict(state)
        assert [sorted(step.ids) for step in second] == whole[3:]
