"""States on disk: the same numbers, refused or passed over where anything that decides them changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from align.errors import ResumeError
from align.models.state_cache import HEADER, StateCache
from align.objectives.representation import RepresentationAlignment
from tests.modules.aligned import TEXTS, adapters, dual, instructed_batch, loss_of, single, tiny

BATCH = instructed_batch()


def test_cached_states_are_those_computed(tmp_path: Path) -> None:
    base = tiny(tmp_path)
    stage1 = adapters(base, tmp_path / "s", ["."], instructions=TEXTS)
    reading = {"cache": "disk", "cache_folder": str(tmp_path / "c")}
    module = single(base, stage1, reading=reading)
    fresh = module.collect(BATCH)
    expected = loss_of(module, BATCH)
    module.collect = None  # type: ignore[assignment]  # from here on nothing may be computed
    found = module.targets(BATCH)
    assert torch.equal(found.base, fresh.base)
    assert torch.equal(found.difference, fresh.difference)
    assert torch.equal(loss_of(module, BATCH), expected)
    again = single(base, stage1, reading=reading, objective=RepresentationAlignment(alpha=2.0))  # alpha is free
    again.collect = None  # type: ignore[assignment]
    torch.testing.assert_close(loss_of(again, BATCH), expected * 2 / 5)
    others = [
        single(base, stage1, [2], reading=reading),
        single(base, stage1, reading=reading, target_init="sft"),
        single(base, adapters(base, tmp_path / "t", ["."], 0.2, TEXTS), reading=reading),
        dual(base, adapters(base, tmp_path / "d", ["good", "bad"]), reading=reading),
    ]
    assert all(other.cache.lookup(BATCH) is None for other in others)
    assert module.cache is not None
    assert module.cache.lookup(instructed_batch(seed=1)) is None


def test_a_torn_end_is_passed_over(tmp_path: Path) -> None:
    cache = StateCache(tmp_path, {"a": 1})
    count = sum(BATCH.response_lengths) + BATCH.num_candidates
    states = torch.randn(2, count, 4)
    cache.store(BATCH, states, 2 * states)
    data, index = next(cache.folder.glob("*.bin")), next(cache.folder.glob("*.index"))
    found = StateCache(tmp_path, {"a": 1}).lookup(BATCH)
    assert found is not None
    assert torch.equal(found[1], 2 * states)
    index.write_text(index.read_text()[:-9])
    assert StateCache(tmp_path, {"a": 1}).lookup(BATCH) is None
    data.write_bytes(data.read_bytes()[:8])
    assert StateCache(tmp_path, {"a": 1}).lookup(BATCH) is None
    (cache.folder / HEADER).write_text(json.dumps({"a": 2}))
    with pytest.raises(ResumeError, match="made under other settings"):
        StateCache(tmp_path, {"a": 1})
