"""Gradients are clipped as torch clips them, to the bit, in every precision and with a fused optimiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from align.training.optimizer import Optimizer
from tests.modules.fitting import fit, pairs_data


class Clips(Callback):
    """Clips a copy of every step's gradients by torch's own function, and compares when the step is done."""

    def __init__(self, value: float, algorithm: str) -> None:
        self.value, self.algorithm = value, algorithm
        self.clipped: list[bool] = []
        self.fused: set[Any] = set()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        copies = [torch.nn.Parameter(p.detach().clone()) for p in pl_module.parameters() if p.grad is not None]
        for copy, real in zip(copies, (p for p in pl_module.parameters() if p.grad is not None), strict=True):
            copy.grad = real.grad.clone()
        before = [c.grad.clone() for c in copies]
        if self.algorithm == "value":
            torch.nn.utils.clip_grad_value_(copies, self.value)
        else:
            torch.nn.utils.clip_grad_norm_(copies, self.value)
        self.expected = [c.grad for c in copies]
        self.clipped.append(not all(torch.equal(a, b) for a, b in zip(before, self.expected, strict=True)))
        self.fused.add(optimizer.defaults["fused"])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        left = [p.grad for p in pl_module.parameters() if p.grad is not None]
        assert all(torch.equal(a, b) for a, b in zip(left, self.expected, strict=True))


@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_as_torch_clips_them(
    precision: str, algorithm: str, model_folder: Path, pairs_file: Path
) -> None:
    watch = Clips(1.0 if algorithm == "norm" else 1e-3, algorithm)
    module = DPOModule(Backbone(str(model_folder)), optimizer=Optimizer(learning_rate=1e-3))
    options = {"gradient_clip_val": watch.value, "gradient_clip_algorithm": algorithm, "precision": precision}
    log = fit(module, pairs_data(pairs_file, groups=20), callbacks=[watch], **options)
    assert len(log.series("train/loss")) == 2
    assert watch.clipped == [True, True]  # the norms are above 1, so that the test could fail
    assert watch.fused == {True}
