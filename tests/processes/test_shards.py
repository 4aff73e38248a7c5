"""Checkpoints in shards: gone on with by any number of processes, exported, refused where one is damaged or missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from align.cli.main import main
from align.training.checkpoint_io import fault_of, newest_whole
from align.training.shard_files import ENDING, SafeReader, shards_of
from tests.processes.runs import NINE, Pair, command
from tests.processes.test_refusals import SAVE
from tests.resume.runs import KILLED, Run
from tests.resume.test_stop import last_line
from tests.test_configs import scalars

EVERY_STEP = [*SAVE[:-1], "1"]
BESIDE = ["--trainer.strategy.save_beside_training", "true"]
LORA = ["--model.backbone.lora.r", "2"]


def from_(run: Run) -> list[str]:
    return ["--ckpt_path", str(run.root / "checkpoints" / "last.ckpt")]


def shards(run: Run) -> list[Path]:
    return sorted(run.root.glob(f"checkpoints/*{ENDING}"))


@pytest.mark.parametrize("more", [[], pytest.param(LORA, marks=pytest.mark.slow)])
def test_one_then_two_then_one(more: list[str], tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    """Ten steps of one process, cut after the third and the sixth, which two processes have made meanwhile."""
    more = [*more, *EVERY_STEP, "--trainer.max_epochs", "2", "--model.backbone.dtype", "float64"]
    alone = command("dpo", pairs_file, model_folder, *more)
    together = command("dpo", pairs_file, model_folder, *more, strategy="fsdp2")
    whole = Run(tmp_path / "whole", alone)
    assert whole() == 0, whole.log
    first = Run(tmp_path / "first", alone)
    assert first(("batch_end", 4, NINE)) == KILLED
    second = Pair(tmp_path / "second", [*together, *from_(first), *BESIDE])
    assert second(("batch_end", 4, NINE)) == KILLED, second.log
    third = Run(tmp_path / "third", [*alone, *from_(second)])
    assert third() == 0, third.log
    losses = scalars(whole.root, "train/loss")
    assert len(losses) == 10
    assert scalars(third.root, "train/loss") == pytest.approx(
        losses[-len(scalars(third.root, "train/loss")) :], rel=1e-6
    )
    expected, found = whole.weights(), third.weights()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9, msg=name)
    seen = [{example for rank in ranks for example in rank[2]} for ranks in zip(*second.batches(), strict=True)]
    assert seen == [set(batch[2]) for batch in whole.batches()[3 : 3 + len(seen)]]


@pytest.mark.slow
def test_damage_and_export(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    """What is saved is what is trained; a folder made of shards holds what the run's own does."""
    keep = ["--trainer.callbacks.save_top_k", "-1"]
    words = command("sft", pairs_file, model_folder, *LORA, *EVERY_STEP, *keep, strategy="fsdp2")
    run = Pair(tmp_path / "run", words)
    assert run() == 0, run.log
    last = run.root / "checkpoints" / "last.ckpt"
    named = shards_of(last)
    assert named is not None
    folder = last.parent / named["folder"]
    entries = SafeReader(folder).read_metadata().state_dict_metadata
    written = sum(e.size.numel() for name, e in entries.items() if isinstance(e, TensorStorageMetadata) and e.size)
    assert written == 3 * sum(w.numel() for w in load_file(run.root / "model" / "adapter_model.safetensors").values())
    assert main(["export", "--run", str(run.root), "--out", str(tmp_path / "out")]) == 0
    expected, found = (load_file(f / "adapter_model.safetensors") for f in (run.root / "model", tmp_path / "out"))
    assert all(torch.equal(found[name], value) for name, value in expected.items())

    alone = Run(tmp_path / "alone", [*command("sft", pairs_file, model_folder, *LORA), "--ckpt_path", str(last)])
    other = Pair(tmp_path / "other", [*words, "--ckpt_path", str(last)])
    shard = folder / "__1_0.distcp"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-9] + b"something")
    for gone_on in (alone, other):
        assert gone_on() == 2
        assert "__1_0.distcp is damaged, or of another run" in last_line(gone_on)
    shard.write_bytes(whole[:-9])
    assert "__1_0.distcp has" in fault_of(last)
    shard.unlink()
    assert alone() == 2
    assert "__1_0.distcp is missing" in last_line(alone)
    assert newest_whole(last.parent) not in (None, last)
    assert len(shards(run)) == len(list(last.parent.glob("*.ckpt")))
