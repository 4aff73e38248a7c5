"""Callbacks and methods where the data are no data module of ours, and callbacks where the module is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from align.callbacks.activations import ActivationCollector
from align.callbacks.evaluation import RewardEvaluation
from align.callbacks.hf_export import HFExport
from align.errors import ConfigError
from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from tests.modules.fitting import fit, pairs_data


class Foreign(L.LightningDataModule):
    """Hands over batches that somebody else has made."""

    def __init__(self, batches: list[Any]) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]


class Other(L.LightningModule):
    """A module that is no method of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.layer(torch.ones(1)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters())

    def train_dataloader(self) -> Iterator[int]:
        return iter([0])


@pytest.fixture
def foreign(model_folder: Path, pairs_file: Path) -> Foreign:
    data = pairs_data(pairs_file, groups=2)
    data.connect(DPOModule(Backbone(str(model_folder))))
    return Foreign(list(data.train_dataloader()))


def test_a_run_on_another_data_module_has_checkpoints(foreign: Foreign, model_folder: Path, tmp_path: Path) -> None:
    options = {"enable_checkpointing": True, "default_root_dir": str(tmp_path), "max_steps": 2}
    fit(DPOModule(Backbone(str(model_folder))), foreign, **options)
    (found,) = tmp_path.rglob("*.ckpt")
    note = torch.load(found, weights_only=True)["align"]
    assert (note["fingerprint"], note["prompt_format"], note["max_tokens"]) == ("", None, None)


@pytest.mark.bad_input
def test_a_callback_that_reads_the_data_names_what_it_needs(foreign: Foreign, model_folder: Path) -> None:
    callback = ActivationCollector()
    with pytest.raises(ConfigError, match=r"activations\.ActivationCollector needs one of align's.*Foreign is none"):
        fit(DPOModule(Backbone(str(model_folder))), foreign, callbacks=[callback])


@pytest.mark.bad_input
def test_a_callback_for_methods_refuses_another_module(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hf_export\.HFExport is for align's methods, Other is none"):
        fit(Other(), None, callbacks=[HFExport(str(tmp_path / "model"))])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"samples from a policy, Other has none"):
        RewardEvaluation({}).on_fit_start(L.Trainer(logger=False), Other())
