"""Every method of the shipped configurations builds and does one step; the loss starts where it is known to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from align.cli.class_names import import_all
from align.data.views import View
from align.training.base_module import AlignModule
from tests.modules.aligned import adapters
from tests.modules.fitting import fit, pairs_data
from tests.modules.rated import rated_data
from tests.test_configs import IN_ROUNDS

pytestmark = pytest.mark.gpu
METHODS = Path(__file__).parents[2] / "configs" / "method"
OWN_DATA = {"dpa", "steerlm", *IN_ROUNDS}
"""Their rounds make the data."""
STAGES = {"rahf_single": ["."], **{key: ["good", "bad"] for key in ("rahf_dual", "rahf_dual_code", "rahf_dual_paper")}}
STARTS = {
    **dict.fromkeys(("dpo", "dpo_cached", "tr_dpo", "bema_dpo", "ld_dpo", "cdpo", "robust_dpo", "vpo"), math.log(2)),
    "bco_pair": 2 * math.log(2),
    "hinge": 1.0,
    "apo_zero": 1.0,
    "kto": 0.5,
}
"""Losses of equal policy and reference."""


def names() -> list[str]:
    return sorted(path.stem for path in METHODS.glob("*.yaml") if path.stem not in OWN_DATA)


def module_and_data(
    name: str, folder: Path, rows: dict[int, Path], tmp_path: Path
) -> tuple[Any, L.LightningDataModule]:
    """Build what a configuration names, as the command line does: the class, its settings, and the view it asks for."""
    config = yaml.safe_load((METHODS / f"{name}.yaml").read_text())
    settings = config["model"].setdefault("init_args", {})
    settings["backbone"] = {**settings.get("backbone", {}), "path": str(folder)}
    if name in STAGES:
        settings["stage1"] = str(adapters(folder, tmp_path / "first", STAGES[name]))
    if name in ("tr_dpo", "bema_dpo"):
        settings["reference"]["init_args"]["every_n_steps"] = 1  # of one, in place of 512
    view = config.get("data", {}).get("init_args", {}).get("view")
    import_all("align.modules")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AlignModule, "model")
    parser.add_argument("--view", type=View | None)
    built = parser.instantiate(parser.parse_object({"model": config["model"], "view": view}))
    if name == "reward_model_multi":
        return built.model, rated_data(tmp_path, groups=8)
    path = rows[4 if "modules.pro." in config["model"]["class_path"] else 2]
    return built.model, pairs_data(path, groups=8, view=built.view)


@pytest.mark.parametrize("name", names())
def test_one_step(name: str, folder: Path, rows: dict[int, Path], tmp_path: Path, device: str) -> None:
    module, data = module_and_data(name, folder, rows, tmp_path)
    log = fit(module, data, accelerator=device, devices=1, precision="bf16-mixed", max_steps=1, max_epochs=-1)
    (loss,) = log.series("train/loss")
    assert math.isfinite(loss)
    if name in STARTS:
        assert loss == pytest.approx(STARTS[name], rel=1e-3)  # bfloat16
    assert log.series("train/grad_norm")[0] > 0
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_what_is_known_names_configurations() -> None:
    assert set(STARTS) | set(STAGES) | OWN_DATA <= {path.stem for path in METHODS.glob("*.yaml")}
