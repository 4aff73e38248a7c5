"""Calls an objective: what it may read, what it has to return, and what an infinite input makes of its losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from align.errors import ConfigError
from align.objectives.objective import Objective

Record = TypeVar("Record")
COPIES = 3
"""Of a first batch, so that losses of one group each cannot be taken for their sum or mean."""
REFERENCE = ("chosen", "rejected", "logprobs")
"""Fields of the records of scores that hold log-probabilities."""
LABELS = ("scores", "labels")
"""Fields that hold NaN where the data has no label."""


class ObjectiveCall:
    """Calls a module's objective on records of scores, and looks at what it returns the first time."""

    def __init__(self) -> None:
        self.checked = False

    def __call__(self, objective: Callable[..., Tensor], *records: Any) -> Tensor:
        """Return one loss for each group or response, NaN where an input is infinite: such a step is not taken.

        Raises ConfigError where the objective returns anything else.
        """
        losses = objective(*records)
        if not self.checked:
            check_shape(objective, losses, records)
            self.checked = True
        return losses.where(finite_rows(records), torch.nan)


def check_shape(objective: Callable[..., Tensor], losses: Any, records: tuple[Any, ...]) -> None:
    """Raise ConfigError unless an objective returns one loss for each group or response of a batch.

    With one group a sum looks like a loss of a group, so the batch is given several times over as well.
    """
    groups = len(records[0][0])
    with torch.no_grad():
        again = objective(*(_repeated(record) for record in records))
    for found, number in ((losses, groups), (again, COPIES * groups)):
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if shape != [number]:
            what = "a scalar (a sum or a mean?)" if shape == [] else f"shape {shape}"
            raise ConfigError(
                f"objective {type(objective).__name__} returned {what} for {number} groups, expected one loss for each "
                f"(shape [{number}]): the module averages over them"
            )


def visible(objective: Objective, reference: Record) -> Record:
    """Return reference scores as an objective may see them: those it did not ask for cannot be read."""
    if "reference" in objective.requires:
        return reference
    hidden: Tensor = torch.empty(0).as_subclass(type("Unread", (_Unread,), {"owner": type(objective).__name__}))
    scores: Any = reference
    return scores._replace(**{name: hidden for name in REFERENCE if name in scores._fields})  # type: ignore[no-any-return]


def finite_rows(records: tuple[Any, ...]) -> Tensor:
    """Return which groups or responses have finite inputs; a label may be NaN."""
    count = len(records[0][0])
    scores: list[Tensor] = []
    labels: list[Tensor] = []
    for record in records:
        for name, values in zip(record._fields, record, strict=True):
            if isinstance(values, Tensor) and not isinstance(values, _Unread) and values.is_floating_point():
                columns = values.flatten(1) if values.dim() > 1 else values.expand(count)[:, None]
                (labels if name in LABELS else scores).append(columns)
    rows = torch.cat(scores, dim=1).isfinite().all(1)
    return rows & ~torch.cat(labels, dim=1).isinf().any(1) if labels else rows


def _repeated(record: Any) -> Any:
    fields = (
        torch.cat([value] * COPIES)
        if isinstance(value, Tensor) and not isinstance(value, _Unread) and value.dim()
        else value
        for value in record
    )
    return type(record)(*fields)


class _Unread(Tensor):
    """Stands for log-probabilities that an objective did not ask for: nothing can be done with it."""

    owner = "the objective"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise ConfigError(
            f"objective {cls.owner} reads the reference's log-probabilities and does not ask for them: add "
            "`requires = frozenset({'reference'})` to the class"
        )
