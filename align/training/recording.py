"""Steps, the means that are logged after them, and gradient steps that are left out."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_

from align.records import CandidateBatch, Step, StepTotals
from align.training.metrics import Means, total_norm
from align.training.non_finite import FINITE, NonFiniteGuard
from align.transfer import to_device

Phase = Literal["train", "val", "test"]
PROGRESS_BAR = {"loss", "accuracy", "margin", "rewards/accuracies", "rewards/margins"}
NORM = "grad_norm"
"""Of the gradients before they are clipped."""
ROWS = "rows"
"""How many groups the means of a validation or test run are over."""


class RecordingModule(L.LightningModule):
    """Computes steps in micro-batches, records named values and logs their exact means, over all ranks."""

    def __init__(self, stop_after_nonfinite: int) -> None:
        super().__init__()
        self._means: dict[Phase, Means] = {"train": Means(), "val": Means(), "test": Means()}
        self._rows: dict[Phase, int] = {"train": 0, "val": 0, "test": 0}
        self.phase: Phase = "train"  # of the batch whose loss is computed
        self._finite = NonFiniteGuard(stop_after_nonfinite)
        self._norm = torch.zeros(())
        self._padding = self._zeroed = False
        self._written = True

    @property
    def attached(self) -> bool:
        """Whether a Trainer runs the module."""
        return self._trainer is not None

    @abstractmethod
    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return this batch's part of the loss of a step whose denominators are `totals`, and record metrics."""

    def record(self, name: str, values: Tensor, weights: Tensor | float = 1.0) -> None:
        """Add values to the mean that is logged under this name after the step or the validation run."""
        self._means[self.phase].add(name, values, 0.0 if self._padding else weights)

    def begin_step(self, step: Step) -> None:
        """Compute, without a gradient, what the losses of a step's micro-batches need to know of all of it."""

    def end_step(self) -> None:
        """Forget what `begin_step` computed."""

    def training_step(self, batch: Step | CandidateBatch, batch_idx: int) -> Tensor:
        """Return the loss of this process's part of a step, whose gradient is that of the last micro-batch.

        The gradients of those before it are added up here, so that Lightning knows steps only: a step cannot be cut,
        and limits, intervals and checkpoints count steps. DDP averages gradients in the backward pass that follows its
        own forward pass, which is the last one's; under FSDP2 every process has as many micro-batches.
        """
        step = batch if isinstance(batch, Step) else Step([batch])
        self._zeroed = len(step) > 1
        if self._zeroed:
            self.trainer.optimizers[0].zero_grad()
        self.phase = "train"
        self.begin_step(step)
        before = torch.zeros((), device=self.device)
        for micro_batch in step[:-1]:
            loss = self._scaled_loss(micro_batch)
            with torch.autocast(self.device.type, enabled=False):
                self.trainer.strategy.backward(loss, None)
            before = before + loss.detach()
        last = self._scaled_loss(step[-1])
        self.end_step()
        return last + before

    def _scaled_loss(self, batch: CandidateBatch) -> Tensor:
        """Return the loss of a micro-batch, so that averaging over ranks gives exactly the step's loss."""
        loss = self._recorded_loss("train", batch)
        self._finite.watch(() if batch.padding else batch.ids, loss)
        return loss * self.trainer.accumulate_grad_batches * self.trainer.world_size

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Begin a step without gradients, unless it has begun: Lightning calls this before the last backward pass."""
        if not self._zeroed:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def validation_step(self, batch: Step | CandidateBatch, batch_idx: int) -> None:
        """Record loss and metrics of a validation batch, or of a step of them."""
        self._evaluate("val", batch)

    def test_step(self, batch: Step | CandidateBatch, batch_idx: int) -> None:
        """Record loss and metrics of a test batch, or of a step of them."""
        self._evaluate("test", batch)

    def _evaluate(self, phase: Phase, batch: Step | CandidateBatch) -> None:
        step, self.phase = batch if isinstance(batch, Step) else Step([batch]), phase
        self.begin_step(step)
        for micro_batch in step:
            self._recorded_loss(phase, micro_batch)
        self.end_step()

    def _recorded_loss(self, phase: Phase, batch: CandidateBatch) -> Tensor:
        self.phase, self._padding = phase, batch.padding
        loss = self.loss(batch, batch.totals)
        self._rows[phase] += 0 if batch.padding else len(batch.group_sizes)
        share = batch.weights.sum() / batch.totals.weight  # shares of a step add up to 1
        self._means[phase].add("loss", loss / share, share, keep_nan=True)
        self._means[phase].fold()
        self._padding = False
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the means of the step, its gradient norm before clipping, and the learning rate.

        They are read with the decision whether the step is taken: the one time in a step that the CPU waits.

        A step that is not finite is left out: AdamW passes over a parameter without a gradient, so that weights,
        moments, weight decay and bias correction stay as they were (a gradient of zeros would move all four). The step
        counts as done for the schedule and the end of the run. Raises TrainingError after too many of them in a row.
        """
        gradients = {name: p.grad for name, p in self.named_parameters() if p.grad is not None}
        norm = self._norm = total_norm(list(gradients.values()))
        found = self._means["train"]
        faulty = self._finite.faulty(norm, scaled=self.trainer.precision == "16-mixed")
        found.add(FINITE, ~faulty, keep_nan=True)
        found.add(NORM, norm, keep_nan=True)
        means = found.read(self._sum_over_ranks)
        if means.pop(FINITE) < 1:
            self._finite.leave_out(self.trainer.global_step + 1, gradients)
            optimizer.zero_grad(set_to_none=True)
        elif not self._finite.taken(self.trainer.global_step + 1, means):
            optimizer.zero_grad(set_to_none=True)
        self.log_means("train", means)
        self._log_number("train/lr", optimizer.param_groups[0]["lr"])
        if self._finite.skipped:
            self._log_number("train/skipped_steps", self._finite.skipped)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm that `on_before_optimizer_step` has just taken, or by value.

        Lightning would take the norm again, and its mixed precision refuses to clip for a fused optimiser, which copes
        with a gradient scaler in its own way; without a scaler there is nothing to refuse.
        """
        if not gradient_clip_val:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if gradient_clip_algorithm == "value":
            clip_grad_value_(parameters, gradient_clip_val)
        else:
            clip_grads_with_norm_(parameters, gradient_clip_val, self._norm)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note whether Lightning is about to hand this step to the loggers."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        self._written = not every or self.trainer.should_stop or self.trainer.global_step % every == 0

    def on_train_end(self) -> None:
        """Hand the last step to the loggers where `trainer.log_every_n_steps` passed over it."""
        if not self._written:
            last = {name: value for name, value in self.trainer.callback_metrics.items() if name.startswith("train/")}
            for logger in self.trainer.loggers:
                logger.log_metrics({name: float(v) for name, v in last.items()}, step=self.trainer.global_step - 1)

    def on_validation_epoch_end(self) -> None:
        """Log the means of the validation run."""
        self._log_held_out("val")

    def on_test_epoch_end(self) -> None:
        """Log the means of the test run."""
        self._log_held_out("test")

    def _log_held_out(self, phase: Phase) -> None:
        """Log means, and beside them the number of rows they are over."""
        means = self._means[phase].read(self._sum_over_ranks)
        if means:
            means[ROWS] = self._sum_over_ranks(to_device(torch.tensor(float(self._rows[phase])), self.device)).cpu()
        self._rows[phase] = 0
        self.log_means(phase, means)

    def log_means(self, phase: Phase, means: dict[str, Tensor]) -> None:
        """Log means that are summed over all ranks."""
        for name, mean in means.items():
            self.log(f"{phase}/{name}", mean, prog_bar=phase == "train" and name in PROGRESS_BAR)

    def _log_number(self, name: str, value: float) -> None:
        """Log a number; Lightning would put one that is no tensor on the device, and wait to read it again."""
        self.log(name, torch.tensor(float(value)))

    def _sum_over_ranks(self, sums: Tensor) -> Tensor:
        return reduced if isinstance(reduced := self.trainer.strategy.reduce(sums, reduce_op="sum"), Tensor) else sums
