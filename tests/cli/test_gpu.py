"""What a GPU run takes by itself, seen through a CUDA that is only claimed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from jsonargparse import Namespace

from align.cli.gpu import use_gpu
from align.cli.trainer_check import check_trainer
from align.errors import ConfigError


@pytest.fixture(autouse=True)
def _precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def chosen(monkeypatch: pytest.MonkeyPatch, *, there: bool = True, capability: int = 9, **settings: object) -> tuple:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (capability, 0))
    torch.set_float32_matmul_precision("highest")
    trainer = Namespace(**{"accelerator": "auto", "precision": None, **settings})
    use_gpu(trainer)
    return trainer.precision, torch.get_float32_matmul_precision()


def test_a_gpu_computes_in_bfloat16_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch) == ("bf16-mixed", "high")
    assert chosen(monkeypatch, accelerator="gpu", precision="16-mixed") == ("16-mixed", "high")
    assert chosen(monkeypatch, precision="32-true") == ("32-true", "highest")
    assert chosen(monkeypatch, capability=7) == (None, "high")


def test_a_cpu_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, there=False) == (None, "highest")
    assert chosen(monkeypatch, accelerator="cpu") == (None, "highest")


@pytest.mark.parametrize("strategy", ["fsdp", Namespace(class_path="lightning.pytorch.strategies.FSDPStrategy")])
def test_fsdp1_is_refused_with_what_replaces_it(strategy: object) -> None:
    with pytest.raises(ConfigError, match=r"FSDP1 cannot clip .* configs/trainer/fsdp2.yaml"):
        check_trainer(Namespace(strategy=strategy))
    check_trainer(Namespace(strategy="ddp"))
    check_trainer(Namespace(strategy=Namespace(class_path="lightning.pytorch.strategies.ModelParallelStrategy")))
