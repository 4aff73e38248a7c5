"""Fixtures: tiny models of many families, tiny tokenizers, and the shared real data where it is at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from tqdm import tqdm

torch.set_num_threads(1)
tqdm.monitor_interval = 0  # its thread may hold the lock of all bars while a test forks, and no process gets it then
os.environ.setdefault("HF_HUB_OFFLINE", "1")
SHARED = Path(os.environ.get("ALIGN_SHARED", Path(__file__).parents[2] / "shared"))


FORKING = ("processes", "resume", "rounds")
"""Folders of tests that fork: they run first, before others have left threads and memory behind in the process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parent.name not in FORKING)


@pytest.fixture
def shared() -> Path:
    """The folder of real data and small pretrained models; tests that need it skip without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no shared data: set ALIGN_SHARED to its folder")
    return SHARED / "data"


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in a folder of its own: caches and runs are written relative to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.delenv("ALIGN_RUN_DIR", raising=False)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A tiny Llama with a byte-level tokenizer, as a model folder."""
    from tests.tiny import save_tiny

    return save_tiny(tmp_path / "tiny")


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    """Forty preference pairs with prompts and responses of different lengths."""
    from tests.tiny import write_pairs

    return write_pairs(tmp_path / "pairs.jsonl", 40)


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """A group of one process, in which a model can be sharded."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
    torch.distributed.destroy_process_group()
