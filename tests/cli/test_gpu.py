"""What a GPU run takes by itself, seen through a CUDA that is only claimed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from jsonargparse import Namespace

from align.cli.gpu import precision_of, settle_precision, usual_log_interval
from align.cli.main import main
from align.cli.run_folder import checkpoint_to_go_on_from
from align.cli.trainer_check import check_trainer
from align.errors import ConfigError, ResumeError


@pytest.fixture(autouse=True)
def _precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def chosen(
    monkeypatch: pytest.MonkeyPatch,
    *,
    there: bool = True,
    capability: int = 9,
    own: str | None = None,
    **settings: object,
) -> tuple:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (capability, 0))
    torch.set_float32_matmul_precision("highest")
    trainer = Namespace(**{"accelerator": "auto", "precision": None, "plugins": None, **settings})
    settle_precision(trainer, own)
    return trainer.precision, torch.get_float32_matmul_precision()


def test_a_gpu_computes_in_bfloat16_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch) == ("bf16-mixed", "high")
    assert chosen(monkeypatch, accelerator="gpu", precision="16-mixed") == ("16-mixed", "high")
    assert chosen(monkeypatch, precision="32-true") == ("32-true", "highest")
    assert chosen(monkeypatch, capability=7) == ("32-true", "highest")


def test_a_cpu_computes_in_float32_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, there=False) == ("32-true", "highest")
    assert chosen(monkeypatch, accelerator="cpu") == ("32-true", "highest")
    assert chosen(monkeypatch, accelerator="cpu", precision="bf16-mixed") == ("bf16-mixed", "highest")


def test_a_run_that_goes_on_keeps_its_precision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert precision_of(tmp_path) is None
    (tmp_path / "config.yaml").write_text("model: {class_path: x}\ntrainer: {precision: bf16-mixed}\n")
    assert chosen(monkeypatch, there=False, own=precision_of(tmp_path)) == ("bf16-mixed", "highest")
    assert chosen(monkeypatch, own="32-true") == ("32-true", "highest")
    (tmp_path / "config.yaml").write_text("model: {class_path: x}\ntrainer: {precision: null}\n")
    assert chosen(monkeypatch, own=precision_of(tmp_path)) == ("32-true", "highest")  # one of an older version
    (tmp_path / "config.yaml").write_text("model: {class_path: x}\ntrainer: {plugins: DoublePrecision}\n")
    assert precision_of(tmp_path) is None
    assert chosen(monkeypatch, own="32-true", precision="16-mixed") == ("16-mixed", "high")


def test_a_run_of_an_older_version_that_left_it_open_goes_on(tmp_path: Path) -> None:
    """It computed in float32, which is written down now: `None` and `32-true` were other settings."""
    older = {"model": {"class_path": "x"}, "trainer": {"precision": None, "max_steps": 4}}
    (tmp_path / "config.yaml").write_text(json.dumps(older))
    settled = {**older, "trainer": {"precision": "32-true", "max_steps": 4}}
    assert checkpoint_to_go_on_from(tmp_path, settled) is None  # from its start
    with pytest.raises(ResumeError, match=r"trainer\.precision was '32-true' and is 'bf16-mixed' now"):
        checkpoint_to_go_on_from(tmp_path, {**older, "trainer": {"precision": "bf16-mixed", "max_steps": 4}})


def test_a_plugin_that_decides_the_precision_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning refuses a precision beside one."""
    plugin = Namespace(class_path="lightning.pytorch.plugins.MixedPrecision")
    assert chosen(monkeypatch, plugins=[plugin])[0] is None
    assert chosen(monkeypatch, plugins="SLURMEnvironment")[0] == "bf16-mixed"


def test_what_was_chosen_on_a_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr("align.cli.gpu.rank_zero_info", told.append)
    chosen(monkeypatch)
    chosen(monkeypatch, precision="32-true")
    chosen(monkeypatch, capability=7)
    chosen(monkeypatch, there=False)
    assert [line.partition(", ")[0] for line in told] == [
        f"precision {p}" for p in ("bf16-mixed", "32-true", "32-true")
    ]
    assert "without TF32" in told[1]
    assert "16-mixed is faster" in told[2]


def test_the_former_config_names_its_successor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "-c", "configs/trainer/fsdp.yaml"]) == 2
    assert "config configs/trainer/fsdp.yaml: this config is trainer/fsdp2 now" in capsys.readouterr().err


def test_a_gpu_logs_every_tenth_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, accelerator, expected in ((True, "auto", 10), (True, "cpu", 1), (False, "auto", 1)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert usual_log_interval(Namespace(accelerator=accelerator)) == expected


@pytest.mark.parametrize("strategy", ["fsdp", Namespace(class_path="lightning.pytorch.strategies.FSDPStrategy")])
def test_fsdp1_is_refused_with_what_replaces_it(strategy: object) -> None:
    with pytest.raises(ConfigError, match=r"FSDP1 cannot clip .* configs/trainer/fsdp2.yaml"):
        check_trainer(Namespace(strategy=strategy))
    check_trainer(Namespace(strategy="ddp"))
    check_trainer(Namespace(strategy=Namespace(class_path="lightning.pytorch.strategies.ModelParallelStrategy")))
