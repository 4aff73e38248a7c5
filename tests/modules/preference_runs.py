"""Modules, rows and data for tests of preference methods."""

from __future__ import annotations

from pathlib import Path

import torch

from align.models.backbone import Backbone, LoRA
from align.modules.dpo import DPOModule
from align.training.optimizer import Optimizer
from tests.tiny import random_batch

FAST = Optimizer(learning_rate=1e-2, warmup_ratio=0.0, lr_scheduler_type="constant")
ROWS = random_batch([1, 1, 1, 1], vocab=200)
LABELLED = ROWS._replace(scores=torch.tensor([[1.0], [0.0], [1.0], [0.0]]))


def build(folder: Path, objective, lora: LoRA | None = None, **options) -> DPOModule:
    backbone = Backbone(str(folder), dtype="float64", lora=lora, layout=options.pop("layout", "auto"))
    return DPOModule(backbone, objective, optimizer=options.pop("optimizer", FAST), **options)


def built(folder: Path, objective, **options) -> DPOModule:
    module = build(folder, objective, **options)
    module.build_model()
    return module
