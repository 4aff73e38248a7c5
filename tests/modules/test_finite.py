"""Steps that are not finite are left out: nothing moves, they are told and counted, and several in a row end the run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from align.callbacks.checkpoint import Checkpoint
from align.data.batching import Batching
from align.errors import ConfigError, TrainingError
from align.models.backbone import Backbone
from align.modules.sft import SFTModule
from align.records import CandidateBatch, StepTotals
from align.training.non_finite import NonFiniteGuard
from align.training.optimizer import Optimizer
from tests.modules.fitting import Log, fit, pairs_data

Fault = Callable[[Tensor, torch.nn.Module], Tensor]


def not_a_number(loss: Tensor, model: torch.nn.Module) -> Tensor:
    return loss * float("nan")


def infinite(loss: Tensor, model: torch.nn.Module) -> Tensor:
    return loss + float("inf")  # its gradient is finite


def infinite_gradient(loss: Tensor, model: torch.nn.Module) -> Tensor:
    norm = model.get_parameter("model.norm.weight")
    return loss + (norm - norm.detach()).clamp(min=0).sqrt().sum() * 1e-3  # zero, with an infinite slope


TWO = 500
"""Tokens that are about half of a step of eight pairs."""


class Faulty(SFTModule):
    """Has a fault in some batches, by their number."""

    def __init__(self, folder: Path, faults: dict[int, Fault], **optimizer: Any) -> None:
        settings = {"learning_rate": 1e-2, "weight_decay": 0.1, **optimizer}
        super().__init__(Backbone(str(folder)), optimizer=Optimizer(**settings))
        self.faults, self.batches = faults, 0
        self.seen: list[tuple[str, ...]] = []

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        loss = super().loss(batch, totals)
        if self.training:
            self.batches += 1
            self.seen.append(batch.ids)
            loss = self.faults.get(self.batches, lambda loss, _: loss)(loss, self.model)
        return loss


class States(Callback):
    """Copies weights, moments and step count after every step, and writes down the steps' ids."""

    def __init__(self) -> None:
        self.after: list[dict[str, Tensor]] = []
        self.ids: list[tuple[str, ...]] = []
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        (optimizer,) = trainer.optimizers
        moments = {
            f"{n}.{k}": v.clone()
            for n, state in enumerate(optimizer.state.values())
            for k, v in state.items()
            if isinstance(v, Tensor)
        }
        self.after.append({**{k: v.detach().clone() for k, v in pl_module.named_parameters()}, **moments})
        self.ids.append(batch.ids)
        self.rates.append(optimizer.param_groups[0]["lr"])


def run(module: Faulty, pairs: Path, **options: Any) -> tuple[Log, States]:
    states = States()
    callbacks = [states, *options.pop("callbacks", [])]
    data = options.pop("data", None) or pairs_data(pairs)
    return fit(module, data, callbacks=callbacks, gradient_clip_val=1.0, **options), states


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("fault", [not_a_number, infinite, infinite_gradient])
def test_a_step_that_is_not_finite_moves_nothing(fault: Fault, model_folder: Path, pairs_file: Path) -> None:
    module = Faulty(model_folder, {4: fault}, stop_after_nonfinite=2)
    with pytest.warns(UserWarning, match="of optimiser step 4 is .* the step was not taken") as told:
        log, states = run(module, pairs_file)
    assert equal(states.after[3], states.after[2])  # weights, both moments, and the count of the bias correction
    assert not equal(states.after[4], states.after[3])
    (line,) = [str(w.message) for w in told if "optimiser step" in str(w.message)]
    assert ", ".join(states.ids[3]) in line
    assert ("in 1 parameters, first model.model.norm.weight" in line) == (fault is infinite_gradient)
    assert log.series("train/skipped_steps") == [1.0] * 7  # from the fourth of ten on
    assert states.rates == run(Faulty(model_folder, {}), pairs_file)[1].rates  # the schedule goes by the batches


def test_a_skipped_step_in_accumulation_names_the_batch_of_the_fault(model_folder: Path, pairs_file: Path) -> None:
    module = Faulty(model_folder, {3: not_a_number}, stop_after_nonfinite=2)
    data = pairs_data(pairs_file, batching=Batching(groups=8, tokens=TWO))
    with pytest.warns(UserWarning, match="loss of optimiser step 2 is nan") as told:
        _, states = run(module, pairs_file, data=data)
    assert states.ids[1] == (*module.seen[2], *module.seen[3])  # two micro-batches a step
    line = next(str(w.message) for w in told if "optimiser step" in str(w.message))
    assert ", ".join(module.seen[2]) in line
    assert module.seen[3][0] not in line.split("groups ")[1].split(";")[0].split(", ")
    assert equal(states.after[1], states.after[0])
    assert not equal(states.after[2], states.after[1])


@pytest.mark.parametrize(("limit", "faults", "steps"), [(1, {4}, 3), (2, {2, 4, 5}, 4), (3, {2, 3, 5, 6, 7}, 6)])
def test_the_run_ends_after_some_in_a_row(
    limit: int, faults: set[int], steps: int, model_folder: Path, pairs_file: Path
) -> None:
    module = Faulty(model_folder, dict.fromkeys(faults, not_a_number), stop_after_nonfinite=limit)
    states = States()
    with pytest.raises(TrainingError, match=rf"\({limit} in a row, {len(faults)} in all\).*stop_after_nonfinite"):
        fit(module, pairs_data(pairs_file), callbacks=[states])
    assert len(states.after) == steps


def test_the_counts_are_in_the_checkpoint(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    """A run that is cut between two faults ends where the uncut one does."""
    saver = Checkpoint(dirpath=str(tmp_path), filename="{step}", every_n_train_steps=1, save_top_k=-1)
    faults = dict.fromkeys((4, 5), not_a_number)
    with pytest.raises(TrainingError, match="optimiser step 5"):
        run(
            Faulty(model_folder, faults, stop_after_nonfinite=2),
            pairs_file,
            callbacks=[saver],
            enable_checkpointing=True,
        )
    again = Faulty(model_folder, {1: not_a_number}, stop_after_nonfinite=2)  # its first batch is the fifth
    with pytest.raises(TrainingError, match=r"optimiser step 5 .*\(2 in a row, 2 in all\)"):
        run(again, pairs_file, ckpt_path=str(tmp_path / "step=4.ckpt"))


def test_a_gradient_scaler_looks_after_its_own_overflows() -> None:
    steps = NonFiniteGuard(1)
    steps.watch(("a",), torch.tensor(1.0))
    infinity = torch.tensor(float("inf"))
    assert steps.faulty(infinity, scaled=False)
    assert not steps.faulty(infinity, scaled=True)
    steps.watch(("b",), torch.tensor(float("nan")))
    assert steps.faulty(torch.tensor(1.0), scaled=True)


def test_the_limit_is_checked() -> None:
    with pytest.raises(ConfigError, match="stop_after_nonfinite must be at least 1, got 0"):
        Optimizer(stop_after_nonfinite=0)


class Scores(SFTModule):
    """Has a validation loss that is given."""

    def on_validation_epoch_end(self) -> None:
        given = {0: float("nan"), 1: 2.0, 2: float("inf"), 3: 1.0, 4: float("nan")}
        self.log("val/score", given[self.current_epoch])


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_score_that_is_no_number_is_never_the_best(
    mode: str, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    from align.data.splits import Splits

    saver = Checkpoint(dirpath=str(tmp_path), filename="{epoch}", monitor="val/score", mode=mode, save_top_k=1)
    options = {"callbacks": [saver], "enable_checkpointing": True, "max_epochs": 5, "num_sanity_val_steps": 0}
    with pytest.warns(UserWarning, match="val/score is nan at step .*not kept among the best"):
        fit(Scores(Backbone(str(model_folder))), pairs_data(pairs_file, splits=Splits(0.2)), **options)
    assert Path(saver.best_model_path).name == {"min": "epoch=3.ckpt", "max": "epoch=1.ckpt"}[mode]
    assert saver.best_model_score == {"min": 1.0, "max": 2.0}[mode]


def test_a_validation_loss_with_one_nan_is_nan(model_folder: Path, pairs_file: Path) -> None:
    class Broken(SFTModule):
        def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
            loss = super().loss(batch, totals)
            return loss if self.training or "line 1" not in batch.ids else loss * float("nan")

    from align.data.splits import Splits

    data = pairs_data(pairs_file, batching=Batching(groups=4, tokens=300), splits=Splits(0.9))
    log = fit(Broken(Backbone(str(model_folder))), data, num_sanity_val_steps=0)
    assert len(data.val_dataloader()) > 3  # several batches, one of them with the fault
    (loss,) = log.series("val/loss")
    assert math.isnan(loss)


class Rank1(Faulty):
    """Has its faults on the second process only."""

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        self.faults = self.faults if self.global_rank else {}
        return super().loss(batch, totals)


class Journal(States):
    """Writes down on which steps this process moved."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        moved = [not equal(*pair) for pair in zip(self.after[1:], self.after, strict=False)]
        Path(f"moved-{trainer.global_rank}").write_text(str(moved))


def test_all_ranks_leave_a_step_out_together(
    model_folder: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An infinite loss of one rank with a finite gradient, which the other ranks cannot see in their own numbers."""
    from tests.resume.runs import in_fork

    told = "align.training.non_finite.rank_zero_warn"
    monkeypatch.setattr(told, lambda line: Path(f"told-{os.getpid()}").write_text(line))

    def both() -> int:
        module = Rank1(model_folder, {3: infinite}, stop_after_nonfinite=2)
        fit(module, pairs_data(pairs_file, groups=8), callbacks=[Journal()], strategy="ddp_fork", devices=2)
        return 0

    assert in_fork(both) == 0
    assert Path("moved-0").read_text() == Path("moved-1").read_text() == str([True, False, True, True])
    first, second = (path.read_text() for path in Path().glob("told-*"))
    assert first == second  # the first process prints what the second one saw
    assert "loss of optimiser step 3 is inf, expected a finite number: groups line" in first
