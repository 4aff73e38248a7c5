"""Every shipped trainer and model fragment trains every kind of method, in its own precision, on CPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from align.evaluation.run_reader import read_series
from tests.modules.aligned import adapters
from tests.processes.runs import Pair
from tests.resume.runs import Run
from tests.test_configs import ROOT

FRAGMENTS = sorted(path for kind in ("trainer", "model") for path in (ROOT / "configs" / kind).glob("*.yaml"))
METHODS = {"sft": None, "dpo": 0.6931472, "reward_model": None, "lorra": None, "rahf_dual": None}
"""Methods, and the loss at their start where it is known."""
SEVERAL = ("ddp", "ddp_cpu", "fsdp2", "multi_node")
ON_CPU = ["--trainer.accelerator", "cpu", "--trainer.num_nodes", "1"]


def words(method: str, fragment: Path, pairs: Path, model: Path, devices: int) -> list[str]:
    gpu = ["-c", str(ROOT / "configs" / "trainer" / "gpu.yaml")] if fragment.parent.name == "model" else []
    return [
        *("fit", "-c", str(ROOT / "configs" / "method" / f"{method}.yaml"), *gpu, "-c", str(fragment), *ON_CPU),
        *("--trainer.devices", str(devices), "--data", "PreferenceFileDataModule", "--data.path", str(pairs)),
        *("--data.batching.groups", "4", "--data.splits.val_fraction", "0.1"),
        *("--model.backbone.path", str(model), "--trainer.limit_train_batches", str(2 * devices)),
        *("--trainer.max_steps", "2", "--trainer.limit_val_batches", "1"),
        *(
            ["--model.stage1", str(adapters(model, Path("first"), ["good", "bad"]).resolve())]
            if method == "rahf_dual"
            else []
        ),
    ]


def trained(run: Run, start: float | None) -> None:
    """Assert two optimiser steps, finite and clipped, from the start that is known."""
    assert run() == 0, run.log
    series = read_series(run.root)
    assert len(series["train/loss"].values) == 2
    assert all(0 < norm < 1e6 for norm in series["train/grad_norm"].values)
    assert "train/skipped_steps" not in series
    if start is not None:
        assert series["train/loss"].values[0] == pytest.approx(start, abs=1e-6)
    assert any((run.root / "model").rglob("*.safetensors"))


def quick(fragment: Path, method: str) -> bool:
    """Tell what CI runs: DPO on each, all methods on a GPU's settings."""
    return (method == "dpo" and fragment.stem != "ddp") or fragment.stem == "gpu"


def crossed() -> list[Any]:
    """Every fragment with every method; the quick ones are all methods on a GPU's settings, and DPO on all."""
    pairs = [(fragment, method) for fragment in FRAGMENTS for method in METHODS]
    return [
        pytest.param(
            *pair,
            marks=[] if quick(*pair) else [pytest.mark.slow],
            id=f"{pair[0].parent.name}-{pair[0].stem}-{pair[1]}",
        )
        for pair in pairs
    ]


@pytest.mark.parametrize(("fragment", "method"), crossed())
def test_every_fragment_trains(
    fragment: Path, method: str, tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    if fragment.stem == "qlora":
        pytest.importorskip("bitsandbytes")
    trained(Run(tmp_path / "run", words(method, fragment, pairs_file, model_folder, 1)), METHODS[method])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fragment", SEVERAL)
@pytest.mark.parametrize("precision", [None, "bf16-mixed"])
def test_two_processes_train(
    precision: str | None, fragment: str, method: str, tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    path = ROOT / "configs" / "trainer" / f"{fragment}.yaml"
    more = ["--trainer.precision", precision] if precision else []
    run = Pair(tmp_path / "run", [*words(method, path, pairs_file, model_folder, 2), *more])
    trained(run, METHODS[method])


def test_sharded_processes_train_in_bfloat16(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    path = ROOT / "configs" / "trainer" / "fsdp2.yaml"
    more = ["--trainer.precision", "bf16-mixed"]
    trained(Pair(tmp_path / "run", [*words("dpo", path, pairs_file, model_folder, 2), *more]), METHODS["dpo"])
