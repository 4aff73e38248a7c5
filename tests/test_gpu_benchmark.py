"""The GPU benchmark runs dry; its peer computes what ours does; a part that fails or hangs is a line of the table."""

from __future__ import annotations

import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from align.modules.dpo import DPOModule
from align.objectives.ranking import PRO
from align.records import CandidateBatch, ListScores
from benchmarks.gpu.attention import WAYS, fill
from benchmarks.gpu.flash_rows import register
from benchmarks.gpu.known_lengths import groups_of, lengths_of
from benchmarks.gpu.peer import candidate_logprobs, micro_batches
from benchmarks.gpu.peer_losses import list_loss
from benchmarks.gpu.sections import run
from benchmarks.gpu.shapes import QWEN_HALF_B
from benchmarks.gpu.step_meter import StepMeter
from benchmarks.gpu.table import OutOfTime, Table, limited
from benchmarks.gpu.training import built

SHAPE = QWEN_HALF_B.tiny()


def test_lengths_are_those_of_pairs_and_lists() -> None:
    sizes = {kind: {len(row) - 1 for row in lengths_of(kind)} for kind in ("hh", "uf", "lists")}  # type: ignore[arg-type]
    assert sizes == {"hh": {2}, "uf": {2}, "lists": {8}}


def test_the_peer_scores_what_ours_does(tmp_path: Path) -> None:
    """The same weights, the same groups: log-probabilities of rows that hold their prompt again."""
    module = built(DPOModule, SHAPE, tmp_path, "cpu")
    groups = groups_of(lengths_of("lists", shrink=16)[::20], SHAPE.sizes["vocab_size"])
    ours = module.score(CandidateBatch.of(groups)).logprobs
    module.model.set_attn_implementation(register())  # type: ignore[operator]
    (rows,) = micro_batches(groups, 10**6)
    longest_first = sorted(groups, key=lambda g: -sum(len(g.prompt_ids) + len(r) for r in g.response_ids))
    theirs = dict(
        zip([g.id for g in longest_first], candidate_logprobs(module.model, rows, "cpu").view(-1, 8), strict=True)
    )
    expected = ours.view(-1, 8)
    for group, values in zip(groups, expected, strict=True):
        torch.testing.assert_close(theirs[group.id], values, rtol=1e-5, atol=1e-5)
    lengths = torch.tensor([[len(ids) for ids in group.response_ids] for group in groups])
    ranks, scores = (torch.tensor([getattr(g, name) for g in groups]).view(-1, 8) for name in ("ranks", "scores"))
    lists = ListScores(expected, lengths, torch.ones_like(lengths, dtype=torch.bool), ranks, scores)
    torch.testing.assert_close(list_loss(8)(ours, ours, lengths.flatten()), PRO()(lists, lists).mean())


def test_micro_batches_keep_to_the_budget() -> None:
    groups = groups_of(lengths_of("uf"), 100)
    parts = list(micro_batches(groups[:64], 4096))
    assert sum(len(part.sizes) for part in parts) == 128
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert all(part.ids.numel() <= 4096 or len(part.sizes) == 2 for part in parts)


def test_ways_to_attend_agree() -> None:
    """Ours and the dense mask on the same row."""
    lengths = fill(lengths_of("lists", shrink=16), 200)
    ours, dense = (WAYS[name](lengths, "cpu") for name in ("ours", "dense"))
    torch.manual_seed(0)
    query, key, value = torch.randn(4, ours.tokens, 8), *torch.randn(2, 2, ours.tokens, 8)
    own = ours.attend(query, key, value)
    torch.testing.assert_close(own, dense.attend(query, key, value), rtol=1e-5, atol=1e-5)


def test_waits_are_counted_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a card reports them: by warnings of one kind, each of which counts however often it comes from one place."""
    modes = list[str]()
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    meter = StepMeter("cpu", 1, 1)
    meter._catch()
    for _ in range(3):
        warnings.warn("called a synchronizing CUDA operation (Triggered internally)", stacklevel=1)
    warnings.warn("of another kind", stacklevel=1)
    meter._count_waits()
    assert meter.found["waits"] == 3
    assert modes == ["warn", "default"]
    (place,) = meter.found["waits_at"]
    assert place.startswith("tests/test_gpu_benchmark.py:")


def test_what_fails_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> dict[str, float]:
        raise RuntimeError("CUDA out of memory")

    def hangs() -> dict[str, float]:
        try:
            time.sleep(30)
        except Exception:  # what compilers do
            return {}
        return {"slept": 30.0}

    table = Table(tmp_path, 60)
    table.measure("a", "fails", 5, fails)
    assert "more than 1 s" in table.measure("a", "hangs", 1, hangs)["failed"]
    assert table.measure("a", "goes on", 5, lambda: {"ms": 2.0})["ms"] == 2
    told = json.loads((tmp_path / "gpu.json").read_text())["a"]
    assert told["fails"]["failed"] == "RuntimeError: CUDA out of memory"
    assert "out of memory" in capsys.readouterr().out
    with pytest.raises(OutOfTime), limited(0.01):
        time.sleep(5)


def measured(tmp_path: Path, only: list[str]) -> dict[str, dict[str, Any]]:
    run(Table(tmp_path, 600), "cpu", tiny=True, only=only)
    found: dict[str, dict[str, Any]] = json.loads((tmp_path / "gpu.json").read_text())
    assert not [f"{s} {n}: {v}" for s, lines in found.items() for n, v in lines.items() if "failed" in v]
    return found


def test_a_tiny_run_measures(tmp_path: Path) -> None:
    """A few sections: comparisons, a run of the Trainer, attention, the optimiser."""
    found = measured(tmp_path, ["check", "rm", "attention", "optimizer"])
    assert found["check"]["float32"]["start_loss"] == pytest.approx(math.log(2))
    assert found["rm"]["hh"]["groups_per_s"] > 0
    assert found["attention"]["hh rows"]["positions"] > found["attention"]["hh ours"]["positions"]


@pytest.mark.slow
def test_all_sections_run(tmp_path: Path) -> None:
    found = measured(tmp_path, [])
    for section, name in (("dpo", "hh packed"), ("dpo", "uf padded"), ("peer", "hh, padding-free"), ("lora8b", "uf")):
        assert found[section][name]["first_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert found["dpo"]["hh packed, profiled"]["top_host_ms"]
    assert found["peer"]["lists, ratio"]["ratio"] > 0
