"""Two processes, whatever their strategy, train as one does: losses, gradient norms, clipping, exported folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes.runs import STRATEGIES, Pair, command
from tests.resume.runs import Run
from tests.test_configs import scalars

CLIP = 0.05
LORA = ["--model.backbone.lora.r", "4"]
DOUBLE = ["--model.backbone.dtype", "float64", "--trainer.gradient_clip_val", str(CLIP)]
METHODS = ["sft", "reward_model", "dpo"]


def weights(run: Run) -> dict[str, torch.Tensor]:
    (file,) = (run.root / "model").glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("parameters", ["full", "lora"])
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_as_one(
    method: str, parameters: str, tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    more = [*DOUBLE, *(LORA if parameters == "lora" else [])]
    one = Run(tmp_path / "one", command(method, pairs_file, model_folder, *more))
    assert one() == 0, one.log
    norms = scalars(one.root, "train/grad_norm")
    assert min(norms) > CLIP  # so that every step is clipped
    assert len(norms) == 5
    for strategy in STRATEGIES:
        two = Pair(tmp_path / strategy, command(method, pairs_file, model_folder, *more, strategy=strategy))
        assert two() == 0, two.log
        for name in ("train/loss", "train/grad_norm"):
            assert scalars(two.root, name) == pytest.approx(scalars(one.root, name), rel=1e-6), (strategy, name)
        expected, found = weights(one), weights(two)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-9, msg=f"{strategy} {name}")
