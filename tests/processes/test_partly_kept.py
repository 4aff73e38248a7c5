"""Values kept in files, of which one process has all it needs and another not: sharded models are computed together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes.runs import Pair, command
from tests.resume.runs import Run
from tests.test_configs import scalars

STATES = ["--model.reading.cache", "disk", "--trainer.max_epochs", "3", "--data.batching.groups", "4"]
FEW = ["--data.batching.tokens", "100"]


@pytest.mark.slow
def test_states_of_responses_that_another_process_has_seen(
    tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    """In later epochs rows come to other processes, which have not kept their states."""
    adapter = ["--model.backbone.lora.r", "4", "--model.backbone.lora.target_modules", "[q_proj, v_proj]"]
    few = pairs_file.with_name("few.jsonl")
    few.write_text("".join(pairs_file.read_text().splitlines(keepends=True)[:10]))
    one = Run(tmp_path / "one", command("lorra", few, model_folder, *adapter, *STATES[2:]))
    assert one() == 0, one.log
    two = Pair(tmp_path / "two", command("lorra", few, model_folder, *adapter, *STATES, *FEW, strategy="fsdp2"))
    assert two() == 0, two.log
    assert scalars(two.root, "train/loss") == pytest.approx(scalars(one.root, "train/loss"), rel=1e-4)


@pytest.mark.slow
def test_a_reference_cache_that_holds_some_rows(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    """A run on half of the rows has filled it before."""
    few = pairs_file.with_name("few.jsonl")
    few.write_text("".join(pairs_file.read_text().splitlines(keepends=True)[:13]))
    kept = ["--model.reference.path", str(tmp_path / "kept.safetensors"), *FEW]
    first = Run(tmp_path / "first", command("dpo_cached", few, model_folder, *kept))
    assert first() == 0, first.log
    one = Run(tmp_path / "one", command("dpo_cached", pairs_file, model_folder))
    assert one() == 0, one.log
    two = Pair(tmp_path / "two", command("dpo_cached", pairs_file, model_folder, *kept, strategy="fsdp2"))
    assert two() == 0, two.log
    assert scalars(two.root, "train/loss") == pytest.approx(scalars(one.root, "train/loss"), rel=1e-5)
