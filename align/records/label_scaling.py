"""From labels to points between 0 and 100, and from the outputs of a regression head back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError
from align.transfer import tensor_on

Table = Float[Tensor, "candidate attribute"]


class LabelScaling(NamedTuple):
    """`slope * label + intercept` gives points; a head whose outputs are z says `offset + unit * z` points."""

    attributes: tuple[str, ...]
    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    offsets: tuple[float, ...]
    """Mean points of the training labels: what a head that knows nothing says."""
    unit: float
    """Points per unit of output."""

    def points(self, labels: Table) -> Table:
        """Return labels as points; NaN stays NaN."""
        return labels * _like(labels, self.slopes) + _like(labels, self.intercepts)

    def labels(self, points: Table) -> Table:
        """Return points as labels, the inverse of `points`."""
        return (points - _like(points, self.intercepts)) / _like(points, self.slopes)

    def points_of(self, outputs: Table) -> Table:
        """Return what the outputs of the head say, in points; they are not clamped."""
        return outputs * self.unit + _like(outputs, self.offsets)

    def plain(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint or a file."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in self._asdict().items()}

    @classmethod
    def of_plain(cls, values: Mapping[str, Any]) -> LabelScaling:
        """Return the rescaling of plain values. Raises ValueError where they are not one."""
        try:
            names, *numbers = (tuple(values[name]) for name in cls._fields[:-1])
            made = cls(names, numbers[0], numbers[1], numbers[2], float(values["unit"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no rescaling: {error}") from error
        if {len(column) for column in numbers} != {len(names)}:
            raise ValueError(f"no rescaling: {len(names)} attributes, {[len(c) for c in numbers]} numbers")
        return made


def _like(table: Table, numbers: Sequence[float]) -> Float[Tensor, " attribute"]:
    return tensor_on(table.device, numbers, table.dtype)


def combine(points: Table, attributes: Sequence[str], direction: Mapping[str, float]) -> Float[Tensor, " candidate"]:
    """Return the reward in a direction, the sum of weight times attribute (DPA, arXiv:2402.18571).

    Raises ConfigError for a weight on an attribute that is not there.
    """
    if unknown := [name for name in direction if name not in attributes]:
        raise ConfigError(f"direction: no attribute {', '.join(unknown)} (there: {', '.join(attributes)})")
    return points @ _like(points, [direction.get(name, 0.0) for name in attributes])
