"""What a model is planned for is what it takes: asked of it for candidates of every length."""

from __future__ import annotations

import math

import pytest
import torch

from align.models.packed_attention import use_packed_attention
from align.records import CandidateBatch, EncodedGroup, RowLayout
from align.scoring.chosen_layout import row_layout
from align.scoring.decoder import choose_layout
from tests.tiny import tiny_model

CPU = torch.device("cpu")


def pair(longest: int) -> CandidateBatch:
    return CandidateBatch.of(
        [EncodedGroup("a", [1] * (longest - 3), [[2] * 3, [2]], [0, 1], [[], []], 1.0, [False] * 2)]
    )


@pytest.mark.parametrize("window", [5, 12, 63, 64, 200])
def test_the_longest_candidate_is_that_of_the_window(window: int) -> None:
    model = tiny_model("mistral", sliding_window=window)
    found = row_layout(model, "auto", 64, CPU)
    assert found.longest == (window if window < 64 else math.inf)
    for length in range(4, 65):
        taken = choose_layout(model, pair(length))
        assert taken == (found.name if length <= found.longest else "padded")


def test_a_model_that_takes_one_layout_only_has_no_end() -> None:
    llama = tiny_model("llama")
    use_packed_attention(llama)
    assert row_layout(llama, "auto", 10**9, CPU) == RowLayout("packed")
    assert row_layout(llama, "shared", 10**9, CPU) == RowLayout("shared")
    llama.refused_layouts = {"packed", "shared"}
    assert row_layout(llama, "auto", 64, CPU) == RowLayout("padded")
    assert row_layout(tiny_model("mistral", sliding_window=5), "padded", 64, CPU) == RowLayout("padded")
