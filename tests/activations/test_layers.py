"""Which layers are read."""

from __future__ import annotations

import pytest

from align.activations import LayerRange, choose_layers, scaled_layers
from align.activations.layers import DUAL_DEPTHS, SINGLE_DEPTHS
from align.errors import ConfigError


def test_the_paper_s_layers_of_32_blocks() -> None:
    assert choose_layers(None, SINGLE_DEPTHS, 32) == [10, 12, 14, 16, 18]
    assert choose_layers(None, DUAL_DEPTHS, 32) == [10, 12, 14, 16, 18, 20]
    assert LayerRange(10, 20, 2).layers() == [10, 12, 14, 16, 18, 20]
    assert LayerRange(10, 20, 2, inclusive=False).layers() == [10, 12, 14, 16, 18]
    assert LayerRange(10, 37, 3).layers() == [10, 13, 16, 19, 22, 25, 28, 31, 34, 37]  # 13B in the code of LoRRA


def test_other_depths_are_scaled_and_each_layer_stands_once() -> None:
    assert scaled_layers(SINGLE_DEPTHS, 12) == [4, 5, 6, 7]  # 3.75, 4.5, 5.25, 6, 6.75: halves round to even
    assert scaled_layers(DUAL_DEPTHS, 2) == [1]
    assert scaled_layers(DUAL_DEPTHS, 1) == [1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0, 1], "has 0: expected layers of 1..4; layer 0 holds the embeddings"),
        ([-1], "has -1"),
        ([5], "has 5"),
        ([2, 2], "a layer stands twice"),
        ([], "is empty"),
        (LayerRange(3, 6), "has 5"),
    ],
)
def test_wrong_layers_are_named(given, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_layers(given, SINGLE_DEPTHS, 4)


def test_a_range_must_go_up() -> None:
    with pytest.raises(ConfigError, match="start <= stop"):
        LayerRange(4, 2)
