"""What responses are rated on: attributes by name, the scale of each, and their mean labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from align.errors import ConfigError


class Scale(NamedTuple):
    """The labels an attribute can have."""

    low: float
    high: float
    step: float = 1.0
    """Distance of two neighbouring grades; 0 for a continuous label."""


FROM_REFERENCE = "from_reference"
"""Name of the label that is 1 for a response that the reference drew, 0 for one of the policy."""


class Labels(NamedTuple):
    """The columns of the scores of every batch of a run."""

    attributes: tuple[str, ...] = ()
    scales: tuple[Scale | None, ...] = ()
    """None where the data does not say."""
    means: tuple[float, ...] = ()
    """Mean over the labelled responses of the training split; NaN where it has no label."""


def column_of(attributes: Sequence[str], name: str | None) -> int:
    """Return the column of an attribute; None is the only one. Raises ConfigError naming those there are."""
    if name is None and len(attributes) == 1:
        return 0
    if name in attributes:
        return attributes.index(name)
    there = ", ".join(attributes) or "none"
    if name is None:
        raise ConfigError(f"the data has {len(attributes)} labels, one has to be named as `attribute`: {there}")
    raise ConfigError(f"attribute {name!r}: no such label in the data (there: {there})")
