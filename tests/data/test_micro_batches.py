"""Micro-batches have no more positions than the budget in any layout, counted by what lays them out, on real lengths."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from transformers import AutoTokenizer

from align.data.batching import Batching
from align.data.encoded_groups import EncodedGroups, GroupTable
from align.data.encoding import EncodingConfig
from align.data.hh_rlhf import HHRLHFDataModule
from align.data.loader import Collated
from align.data.order import DistributedShard, StepOrder
from align.data.pass_order import PassOrder
from align.data.positions import Positions, oversized
from align.data.preference_file import PreferenceFileDataModule
from align.data.splits import Splits
from align.records import CandidateBatch, EncodedGroup, RowLayout
from align.scoring.layouts import count_positions
from align.training.mismatched_prompts import mismatched
from tests.data.test_batching import groups

LAYOUTS = [RowLayout("packed"), RowLayout("shared"), RowLayout("padded"), RowLayout("packed", 300)]
FILES = {
    "hh": ("hh-rlhf-harmless-base/test.jsonl.gz", HHRLHFDataModule, "pairs"),
    "ultrafeedback": ("ultrafeedback-binarized/train.jsonl.gz", PreferenceFileDataModule, "pairs"),
    "lists of 8": ("alpaca-eval-ranked/ranked.jsonl.gz", PreferenceFileDataModule, "lists"),
}


@cache
def real(shared: Path, name: str, rows: int | None) -> EncodedGroups:
    """The groups of a real file, in Qwen2's tokens."""
    file, made, view = FILES[name]
    needs = SimpleNamespace(
        **{"view": view, "truncation": "usual", "max_positions": 32768, "instructions": None, "max_response": None},
        **{"scores_turns": False, "reads_others": False, "reads_steps": False, "step_groups": 64},
        row_layout=RowLayout,
        tokenizer=AutoTokenizer.from_pretrained(shared / "tokenizer-qwen2"),
        take_labels=lambda labels: None,
    )
    data = made(str(shared / file), rows, splits=Splits(0), seed=0, encoding=EncodingConfig(num_proc=1))
    data.connect(needs)
    return data.groups["train"]


def computed(batch: CandidateBatch, layout: RowLayout) -> int:
    """What the layouts themselves count; a batch with a candidate that is too long is padded rows."""
    longest = max(batch.prompt_lengths[p] + r for p, r in zip(batch.prompt_of, batch.response_lengths, strict=True))
    return count_positions(batch, "padded" if longest > layout.longest else layout.name)[0]


def kept(data: EncodedGroups, layout: RowLayout, budget: int, step: int) -> list[float]:
    """Assert the budget of every batch of an epoch and of a validation pass; return how level 8 ranks are, by step."""
    collated, batching = Collated(data), Batching(tokens=budget)
    passed = PassOrder(data, batching, share=DistributedShard(0, 1), layout=layout)
    level = []
    for batch in (collated[plan] for plan in passed):
        assert len(batch.group_sizes) == 1 or computed(batch, layout) <= budget
    orders = [StepOrder(data, batching, 0, step, share=DistributedShard(rank, 8), layout=layout) for rank in range(8)]
    for plans in zip(*orders, strict=True):
        work = []
        for rank in plans:
            made = [collated[plan] for plan in rank if not plan.padding]
            for batch in made:
                assert len(batch.group_sizes) == 1 or computed(batch, layout) <= budget
            work.append(sum(computed(batch, layout) for batch in made))
        level.append(np.mean(work) / max(work))
    return level[:-1]  # the last step of the epoch has what is left


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", FILES)
def test_no_batch_of_real_groups_exceeds_the_budget(shared: Path, name: str, layout: RowLayout) -> None:
    assert kept(real(shared, name, 90), layout, 4096, 32)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [4096, 16384])
@pytest.mark.parametrize("name", FILES)
def test_eight_ranks_end_together(shared: Path, name: str, budget: int) -> None:
    """Packed rows leave ranks level at 8 groups for each of them; padding needs more groups to choose from."""
    data = real(shared, name, None)
    assert min(kept(data, RowLayout("packed"), budget, 64)) > 0.95
    for layout in LAYOUTS[1:]:
        assert np.mean(kept(data, layout, budget, 256)) > 0.95


def test_packed_ranks_are_level_without_real_data() -> None:
    assert min(kept(groups(1000), RowLayout("packed"), 400, 64)) > 0.95


def test_windows_of_a_pass_are_never_joined() -> None:
    """The longest group of a window and the shortest of the next would make a batch as wide as one, as long as all."""
    rows = [EncodedGroup(str(i), [1] * 5, [[2] * (5 + i % 200)], [0], [[]], 1.0, [False]) for i in range(4000)]
    data = EncodedGroups([GroupTable(datasets.Dataset.from_list([g._asdict() for g in rows]))], [1.0])
    order = PassOrder(data, Batching(tokens=500), share=DistributedShard(), layout=RowLayout("padded"))
    tokens = data.extents.tokens
    padded = sum(len(batch) * tokens[batch].max() for batch in order.batches())
    assert padded < 1.05 * tokens.sum()
    assert all(len(b) == 1 or len(b) * tokens[b].max() <= 500 for b in order.batches())


@pytest.mark.parametrize("layout", LAYOUTS[:3], ids=str)
def test_the_longest_thing_that_is_read_counts(layout: RowLayout) -> None:
    """Prompts of their own, prompts under instructions, and responses under the prompts of other rows."""
    draw = np.random.default_rng(0)

    def ids(low: int, high: int) -> list[int]:
        return [3] * int(draw.integers(low, high))

    rows = []
    for i in range(60):
        own = [ids(1, 40), ids(1, 40)] if i % 3 == 0 else []
        asked = [] if own else [ids(20, 60), ids(20, 60)]
        rows.append(
            EncodedGroup(
                *(str(i), [] if own else ids(1, 40), [ids(1, 30), ids(1, 30)], [0, 1], [[], []], 1.0, [False] * 2),
                instructed_ids=asked,
                own_prompt_ids=own,
            )
        )
    data = EncodedGroups([GroupTable(datasets.Dataset.from_list([g._asdict() for g in rows]))], [1.0])
    found = Positions.of(data.extents, layout).alone
    for group, size in zip(data[range(60)], found, strict=True):
        batch = CandidateBatch.of([group])
        assert size == max(
            computed(b, layout) for b in (batch, *(batch.under(i) for i in range(len(batch.instructed))))
        )


@pytest.mark.parametrize("layout", LAYOUTS[:3], ids=str)
def test_responses_under_other_prompts_fit_too(layout: RowLayout) -> None:
    rows = [g._replace(response_ids=g.response_ids[:1], ranks=[0], scores=[[]]) for g in groups(200)[range(200)]]
    data = EncodedGroups([GroupTable(datasets.Dataset.from_list([g._asdict() for g in rows]))], [1.0])
    for step in StepOrder(data, Batching(tokens=150), 0, 32, share=DistributedShard(), others=True, layout=layout):
        for batch in Collated(data)[step]:
            moved, _ = mismatched(batch, 10**6)
            assert len(batch.group_sizes) == 1 or computed(moved, layout) <= 150


def test_groups_above_the_budget_are_told() -> None:
    data = groups(50)
    sizes = data.prompt_tokens + data.response_tokens
    positions = Positions.of(data.extents, RowLayout())
    told = oversized(positions, int(np.sort(sizes)[-3]))
    assert told is not None
    assert told.startswith("WARNING 2 of 50 groups take more positions than data.batching.tokens")
    assert f"the largest {sizes.max()}:" in told
    assert oversized(positions, int(sizes.max())) is None
