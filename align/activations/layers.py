"""Which layers a method reads: layer l is the residual stream after l blocks, so 1 is the first that blocks change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from align.errors import ConfigError

SINGLE_DEPTHS = (0.3125, 0.375, 0.4375, 0.5, 0.5625)
"""Layers 10, 12, 14, 16, 18 of 32: what the released code of RAHF-SCIT runs (its range leaves the end out)."""
DUAL_DEPTHS = (*SINGLE_DEPTHS, 0.625)
"""Layers 10, 12, ..., 20 of 32: RAHF-Dual and LORRA."""


@dataclass(frozen=True)
class LayerRange:
    """Evenly spaced layers."""

    start: int
    """First layer, at least 1."""
    stop: int
    """Last layer."""
    step: int = 1
    """Distance between layers."""
    inclusive: bool = True
    """Whether `stop` itself is taken; the paper's `(10, 20, 2)` leaves it open, and its two programs differ."""

    def __post_init__(self) -> None:
        if self.step < 1 or self.stop < self.start:
            raise ConfigError(f"target_layers {self}: expected start <= stop and step >= 1")

    def layers(self) -> list[int]:
        """Return the layers in order."""
        return list(range(self.start, self.stop + self.inclusive, self.step))


def scaled_layers(depths: Sequence[float], num_blocks: int) -> list[int]:
    """Return layers at shares of the depth, each once, as the paper's layers lie in 32 blocks."""
    return sorted({min(max(round(share * num_blocks), 1), num_blocks) for share in depths})


def choose_layers(given: Sequence[int] | LayerRange | None, depths: Sequence[float], num_blocks: int) -> list[int]:
    """Return the layers a setting names, or those at the usual depths where it is null.

    Raises ConfigError for layer 0 (the embeddings, which no block has changed), layers outside the model, and
    repetitions.
    """
    if given is None:
        return scaled_layers(depths, num_blocks)
    layers = given.layers() if isinstance(given, LayerRange) else list(given)
    wrong = [layer for layer in layers if not 1 <= layer <= num_blocks]
    if not layers or wrong:
        found = f"has {wrong[0]}" if wrong else "is empty"
        raise ConfigError(
            f"target_layers {found}: expected layers of 1..{num_blocks}; layer 0 holds the embeddings, which no "
            "adapter can move"
        )
    if len(set(layers)) != len(layers):
        raise ConfigError(f"target_layers {layers}: a layer stands twice")
    return sorted(layers)
