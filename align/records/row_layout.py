"""How a model lays the groups of a batch out, which decides how many positions it computes for them."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

LayoutName = Literal["packed", "shared", "padded"]


class RowLayout(NamedTuple):
    """The layout of batches of short candidates, and where short ends."""

    name: LayoutName = "packed"
    """`packed` computes each token once and nothing else, `shared` a row per prompt with its responses, `padded` a row
    per candidate; rows are as wide as the widest."""
    longest: float = math.inf
    """Prompt and response tokens of the longest candidate for which this is so. A batch with a longer one is padded
    rows, such as under an attention window."""
