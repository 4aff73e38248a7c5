"""What is trained on beside a round's own records: records of the data, in a share of the whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from align.errors import ConfigError
from align.records import Example


@dataclass(frozen=True)
class Replay:
    """A share of off-policy records: 0.5 is SimpleMix (Li et al. 2025, arXiv:2505.02363), 0.15 the replay of DPA."""

    share: float = 0.5
    """Of all records of a round."""

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ConfigError(f"replay.share must lie in [0, 1), got {self.share}")

    def mix(self, own: Sequence[Example], data: Sequence[Example], *, seed: int, round_number: int) -> list[Example]:
        """Return the round's records and as many of the data as make up the share, chosen by a hash of their ids.

        Where the data has too few, all of them.
        """
        wanted = round(len(own) * self.share / (1 - self.share))

        def place(example: Example) -> bytes:
            return hashlib.sha256(repr((seed, round_number, "replay", example.id)).encode()).digest()

        chosen = sorted(data, key=place)[:wanted]
        return [*own, *(replace(e, origins=("data",) * len(e.responses)) for e in chosen)]
