"""What raters say of each response beside the choice: ratings on scales, and fields with a few values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.errors import ConfigError, shorten

RATING = "rating"
MOST = 12
"""Values of a field: more fit neither on the page nor into a table."""
Remark = int | str | None
Remarks = Mapping[str, Sequence[Remark]]
"""By the name of the field, what was said of each response; null where nothing was."""


@dataclass(frozen=True)
class Field:
    """One question about every response, or about a rater; without values it is answered by free text."""

    name: str
    question: str
    values: tuple[int | str, ...] = ("yes", "no")
    required: bool = False
    ends: tuple[str, str] = ("", "")
    """What the first and the last value mean, where the values are a scale."""

    @property
    def ordered(self) -> bool:
        """Return whether the values are numbers of a scale."""
        return bool(self.values) and all(isinstance(value, int) for value in self.values)


@dataclass(frozen=True)
class RatingScale:
    """A rating of every response by whole numbers, as InstructGPT's labellers gave it (arXiv:2203.02155, figure 12)."""

    low: int = 1
    """The worst."""

    high: int = 7
    """The best; at most 11 above `low`."""

    low_label: str = ""
    """What `low` means, in words that stand beside it."""

    high_label: str = ""
    """What `high` means."""

    question: str = "Overall quality"
    """What is rated."""

    required: bool = True
    """No choice is taken before every response is rated."""

    def __post_init__(self) -> None:
        if not 1 <= self.high - self.low < MOST:
            raise ConfigError(f"scale must have 2 to {MOST} whole numbers, got low {self.low} and high {self.high}")

    def field(self, name: str = RATING) -> Field:
        """Return the question that it asks."""
        values = tuple(range(self.low, self.high + 1))
        return Field(name, self.question, values, self.required, (self.low_label, self.high_label))


def field_of(place: str, row: Any) -> Field:
    """Return a field, or a scale, as a file describes it. Raises ConfigError naming its place."""
    known = {"name", "question", "values", "required"}
    if isinstance(row, Mapping) and set(row) & {"low", "high"}:
        return _scale_of(place, row)
    if not isinstance(row, Mapping) or set(row) - known or "name" not in row:
        raise ConfigError(f"{place}: expected name, question, values and required, got {shorten(row, 80)}")
    name, question, values = row["name"], row.get("question", row["name"]), row.get("values", ["yes", "no"])
    if not all(isinstance(text, str) and text.strip() for text in (name, question)) or name == RATING:
        raise ConfigError(
            f"{place}: name and question must be texts, and the name not {RATING!r} without low and high, got {name!r}"
        )
    check_values(place, values, MOST)
    return Field(name, question, tuple(values), required_of(place, row, usual=False))


def check_values(place: str, values: Any, most: int) -> None:
    """Raise ConfigError unless these can be chosen from."""
    if not isinstance(values, list) or not 2 <= len(values) <= most or len(set(map(str, values))) < len(values):
        raise ConfigError(f"{place}: values must be 2 to {most} different texts, got {shorten(values, 80)}")
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise ConfigError(f"{place}: values must be texts (in YAML quote yes and no), got {shorten(values, 80)}")


def required_of(place: str, row: Mapping[str, Any], *, usual: bool) -> bool:
    """Return whether a row says that its question must be answered. Raises ConfigError for no truth value."""
    found = row.get("required", usual)
    if not isinstance(found, bool):
        raise ConfigError(f"{place}: required must be true or false, got {shorten(found, 40)!r}")
    return found


def _scale_of(place: str, row: Mapping[str, Any]) -> Field:
    known = {"name", "question", "low", "high", "low_label", "high_label", "required"}
    if set(row) - known or "name" not in row or not all(type(row.get(end)) is int for end in ("low", "high")):
        raise ConfigError(
            f"{place}: expected a scale as name, low and high (whole numbers), question, low_label, high_label and "
            f"required, got {shorten(row, 80)}"
        )
    texts = {key: value for key, value in row.items() if key in ("question", "low_label", "high_label")}
    if not all(isinstance(text, str) and text.strip() for text in (row["name"], *texts.values())):
        raise ConfigError(f"{place}: name, question and labels must be texts, got {shorten(row, 80)}")
    usual = {} if row["name"] == RATING else {"question": row["name"]}
    required = required_of(place, row, usual=RatingScale.required)
    try:
        return RatingScale(row["low"], row["high"], **{**usual, **texts}, required=required).field(row["name"])
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error


def as_text(fields: Sequence[Field]) -> str:
    """Return the fields as the store keeps them."""
    return json.dumps([vars(field) for field in fields])


def from_text(text: str) -> tuple[Field, ...]:
    """Return the fields that `as_text` wrote."""
    rows = json.loads(text)
    return tuple(Field(**{**row, "values": tuple(row["values"]), "ends": tuple(row["ends"])}) for row in rows)


def checked(fields: Sequence[Field], said: Any, count: int) -> Remarks:
    """Return what was said of `count` responses, in the order of the fields. Raises ValueError for what cannot be."""
    if not isinstance(said, Mapping) or set(said) - {field.name for field in fields}:
        raise ValueError(f"remarks must be by {', '.join(field.name for field in fields) or 'nothing'}")
    found = {}
    for field in fields:
        values = said.get(field.name, [None] * count)
        if not isinstance(values, list) or len(values) != count or not all(_fits(field, value) for value in values):
            raise ValueError(f"{field.name} must be {count} of {', '.join(map(str, field.values))} or null")
        if field.required and None in values:
            raise ValueError(f"{field.name} is asked of every response")
        found[field.name] = values
    return found


def by_response(said: Remarks, order: Sequence[int]) -> Remarks:
    """Return what was said at each place as what was said of each response."""
    return {name: [values[order.index(n)] for n in range(len(order))] for name, values in said.items()}


def by_place(said: Remarks, order: Sequence[int]) -> Remarks:
    """Return what was said of each response as `order` shows it."""
    return {name: [values[n] for n in order] for name, values in said.items()}


def _fits(field: Field, value: Any) -> bool:
    return value is None or any(type(value) is type(known) and value == known for known in field.values)
