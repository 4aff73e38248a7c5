"""Objectives whose loss depends on other rows see the rows of all ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from align.modules.dpo import DPOModule
from align.objectives.pointwise import KTO
from align.training.mismatched_prompts import mismatched
from tests.models.test_reference import disturb
from tests.modules.preference_runs import LABELLED, built
from tests.processes.runs import IN_CI, Pair, command
from tests.processes.test_equal import DOUBLE
from tests.resume.runs import Run, forked
from tests.test_configs import scalars
from tests.tiny import random_batch


@pytest.fixture
def four_pairs(pairs_file: Path) -> Path:
    """Eight rows: every step holds all of them, however they are divided."""
    few = pairs_file.with_name("four.jsonl")
    few.write_text("".join(pairs_file.read_text().splitlines(keepends=True)[:4]))
    return few


@pytest.mark.parametrize("strategy", IN_CI)
def test_the_shift_of_bco_is_the_mean_reward_of_all_ranks(
    strategy: str, tmp_path: Path, model_folder: Path, four_pairs: Path
) -> None:
    epochs = ["--trainer.max_epochs", "6", *DOUBLE]
    one = Run(tmp_path / "one", command("bco", four_pairs, model_folder, *epochs))
    assert one() == 0, one.log
    two = Pair(tmp_path / strategy, command("bco", four_pairs, model_folder, *epochs, strategy=strategy))
    assert two() == 0, two.log
    losses = scalars(one.root, "train/loss")
    assert len(losses) == 6
    assert losses[-1] < 0.999 * losses[0]
    assert scalars(two.root, "train/loss") == pytest.approx(losses, rel=1e-6)


def kto(folder: Path) -> DPOModule:
    """A policy that is better than its reference."""
    module = built(folder, KTO(0.1))
    disturb(module.reference_model.requires_grad_(True))  # type: ignore[union-attr]
    return module


def test_the_anchor_of_kto_is_the_mean_over_all_ranks(tmp_path: Path, model_folder: Path) -> None:
    """Each rank pairs its own rows; the mean is taken over the mismatched pairs of both before it is cut at 0."""
    others = random_batch([1, 1, 1], seed=7, vocab=200)
    halves = [LABELLED, others._replace(scores=torch.tensor([[1.0], [0.0], [1.0]]))]
    ratios, found = [], tmp_path / "found"
    for half in halves:
        module = kto(model_folder)
        foreign, real = mismatched(half, 1000)
        own, other = (module.scored(m, foreign).logprobs for m in (module.model, module.reference_model))
        ratios.append((own - other)[real].detach())

    def one(rank: int) -> int:
        dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=rank, world_size=2)
        module = kto(model_folder)
        value = module.provider._mismatched_kl(module, halves[rank]).item()
        Path(f"{found}{rank}").write_text(repr(value))
        return 0

    processes = [forked(lambda rank=rank: one(rank)) for rank in range(2)]  # type: ignore[misc]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    expected = max(torch.cat(ratios).mean().item(), 0)
    assert expected > 0
    assert [float(Path(f"{found}{rank}").read_text()) for rank in range(2)] == pytest.approx([expected] * 2)
