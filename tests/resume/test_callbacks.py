"""Callbacks of others: bit-identical after kills, or refused or warned of by name; writers of others are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from safetensors.torch import load_file

from align.cli.main import main
from align.training.other_callbacks import check_callbacks
from tests.resume.runs import KILLED, Run, same
from tests.resume.stateful import Annealing, Forgetful
from tests.resume.test_exact import NINE, command

EMA = ["--trainer.callbacks+", "lightning.pytorch.callbacks.EMAWeightAveraging", "--trainer.callbacks.decay", "0.8"]
EQUAL = ["--trainer.callbacks+", "lightning.pytorch.callbacks.WeightAveraging"]
LORA = ["--model.backbone.lora.r", "2"]
TWO = ["--trainer.max_epochs", "2"]
SETTINGS = {
    "ema": ("sft", EMA),
    "ema_lora": ("dpo", [*EMA, *LORA]),
    "equal": ("dpo", EQUAL),
    "own": ("sft", ["--trainer.callbacks+", "tests.resume.stateful.Annealing"]),
    "stopping": (
        "sft",
        [
            *("--trainer.callbacks+", "lightning.pytorch.callbacks.EarlyStopping"),
            *("--trainer.callbacks.monitor", "val/loss", "--trainer.callbacks.min_delta", "10"),
            *("--trainer.callbacks.patience", "2", "--trainer.max_epochs", "5"),
        ],
    ),
}


def trained(run: Run) -> dict[str, torch.Tensor]:
    (file,) = (run.root / "model").glob("*.safetensors")
    return load_file(file)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_kills_change_nothing(name: str, tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    """Within an epoch, at the end of one, and after the last step: the average is taken up, and is what is exported."""
    method, more = SETTINGS[name]
    arguments = command(pairs_file, model_folder, *TWO, *more, method=method)
    whole, cut = Run(tmp_path / "whole", arguments), Run(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    for moment, count in (("batch_end", 5), ("validation_end", 1), ("epoch_end", 1)):
        assert cut((moment, count, NINE)) == KILLED, cut.log
    assert cut() == 0, cut.log
    same(whole, cut)
    one, two = trained(whole), trained(cut)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_average_is_exported_and_kept_small(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    """The exported adapter is the average, not the last step's, and a checkpoint holds no frozen weights."""
    arguments = command(pairs_file, model_folder, "--trainer.max_epochs", "1", *EMA, *LORA)
    run = Run(tmp_path / "run", arguments)
    assert run() == 0, run.log
    checkpoint = torch.load(run.root / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["current_model_state"].keys() == checkpoint["state_dict"].keys()
    assert all("lora" in key for key in checkpoint["state_dict"])
    average = {k.split("base_model.model.")[-1].replace(".default", ""): v for k, v in checkpoint["state_dict"].items()}
    exported = {k.split("base_model.model.")[-1]: v for k, v in trained(run).items()}
    assert average.keys() == exported.keys()
    assert all(torch.equal(average[key], exported[key]) for key in average)
    assert not all(
        torch.equal(checkpoint["current_model_state"][key], value) for key, value in checkpoint["state_dict"].items()
    )


def test_state_that_no_run_could_read_stops_the_run(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    more = ["--trainer.max_epochs", "1", "--trainer.callbacks+", "tests.resume.stateful.Numpy"]
    run = Run(tmp_path / "run", command(pairs_file, model_folder, *more, method="sft"))
    assert run() == 3
    assert "the state of callback Numpy holds a numpy.float64, which no run could go on from" in run.log
    assert "Traceback" not in run.log


def test_what_is_refused_or_warned_of() -> None:
    with pytest.raises(ValueError, match="StochasticWeightAveraging copies the model before it is built"):
        check_callbacks([StochasticWeightAveraging(0.1)], sharded=False)
    from lightning.pytorch.callbacks import EMAWeightAveraging

    with pytest.raises(ValueError, match="EMAWeightAveraging cannot average a sharded model"):
        check_callbacks([EMAWeightAveraging()], sharded=True)
    with pytest.warns(UserWarning, match="callback Forgetful has no state_dict, so count begin anew"):
        check_callbacks([Forgetful()], sharded=False)
    check_callbacks([EMAWeightAveraging(), Annealing()], sharded=False)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--trainer.plugins", "lightning.pytorch.plugins.io.AsyncCheckpointIO"], "plugin AsyncCheckpointIO writes"),
        (
            ["--trainer.callbacks+", "StochasticWeightAveraging", "--trainer.callbacks.swa_lrs", "0.01"],
            "callback StochasticWeightAveraging copies",
        ),
    ],
)
def test_refused_in_one_line(
    more: list[str], says: str, model_folder: Path, pairs_file: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = command(pairs_file, model_folder, *more, "--trainer.default_root_dir", str(tmp_path / "run"), method="sft")
    assert main(words) == 2
    error = capfd.readouterr().err
    assert says in error
    assert "Traceback" not in error
