"""Where the tests of a GPU run: on the first card, or dry on a CPU with ALIGN_TEST_DEVICE=cpu."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.tiny import WORDS, save_tiny

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # has to stand before the first product; deterministic runs


@pytest.fixture(scope="session")
def device() -> str:
    """The device under test; every test skips without one."""
    asked = os.environ.get("ALIGN_TEST_DEVICE", "cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device; ALIGN_TEST_DEVICE=cpu runs the tests dry")
    return asked


@pytest.fixture(autouse=True)
def _full_products(device: str) -> Iterator[None]:
    """Multiply float32 in float32, whatever a run before has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama whose heads are as wide as flash kernels want them."""
    place = tmp_path_factory.mktemp("gpu") / "model"
    return save_tiny(place, hidden_size=64, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Prompts with two scored responses each, and with four: the better, the higher the score."""
    place = tmp_path_factory.mktemp("rows")
    return {size: scored_rows(place / f"{size}.jsonl", size) for size in (2, 4)}


def scored_rows(path: Path, size: int) -> Path:
    scores = [round(1 - (n + 1) / (size + 1), 2) for n in range(size)]
    texts = [
        {"prompt": f"{a} {b}?", "completions": [f"{'yes ' * (n + 1)}{a} {b}" for n in range(size)], "scores": scores}
        for a in WORDS[:4]
        for b in WORDS[4:8]
    ]
    path.write_text("\n".join(map(json.dumps, texts)))
    return path
