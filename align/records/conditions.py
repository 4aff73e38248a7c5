"""How a prompt says which answer is wanted: a direction, or the ratings the answer should have."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import (
    Any,
    Literal,  # noqa: F401  types of inherited fields are looked up here
)

from align.records.cap import Cap
from align.records.conditioning_base import Conditioning
from align.records.reward_directions import Arc, Way, half_up, vector, way_of

NUMBER = r"-?\d+(?:\.\d+)?"


@dataclass(frozen=True)
class WeightedRating(Conditioning):
    """The sentence of the released model: `maximize weighted rating = helpfulness*80 + verbosity*-60`."""

    decimals: bool = False
    """Write `helpfulness*0.80 - verbosity*0.60`, as the paper's figures do, instead of integers times 100."""

    planar = False

    def direction(self, angle: Way) -> str:
        """Return the sentence."""
        terms = list(zip(self.named, vector(angle), strict=True))
        if not self.decimals:
            weighted = " + ".join(f"{name}*{half_up(100 * weight)}" for name, weight in terms)
        else:
            signed = "".join(f" {'-' if w < 0 else '+'} {name}*{abs(w):.2f}" for name, w in terms[1:])
            weighted = f"{terms[0][0]}*{terms[0][1]:.2f}{signed}"
        return f"Your response should maximize weighted rating = {weighted}"

    def ratings(self, points: Sequence[float]) -> str:
        """Return a sentence of our own, in the manner of SteerLM (Dong et al. 2023, arXiv:2310.05344)."""
        known = [f"{name}:{_points(p)}" for name, p in zip(self.named, points, strict=True) if not math.isnan(p)]
        return f"Your response should have the ratings {','.join(known)}" if known else ""

    def read_direction(self, text: str) -> Way | None:
        """Return the direction of the weights."""
        first, *others = map(re.escape, self.named)
        terms = "".join(rf" ([+-]) {name}\*({NUMBER})" for name in others)
        found = re.search(rf"weighted rating = {first}\*({NUMBER}){terms}", text)
        if found is None:
            return None
        rest = [
            float(f"{sign}1") * float(n) for sign, n in zip(found.groups()[1::2], found.groups()[2::2], strict=True)
        ]
        return way_of([float(found[1]), *rest])

    def read_ratings(self, text: str) -> dict[str, int]:
        """Return the ratings."""
        found = re.search(r"the ratings ([\w:,-]+)", text)
        pairs = [pair.rsplit(":", 1) for pair in found[1].split(",")] if found else []
        return {name: int(value) for name, value in pairs}


@dataclass(frozen=True)
class TwoDigits(Conditioning):
    """Two digits for each reward, `helpfulness 70 verbosity 25`, for small models.

    A direction spreads the arc over 00 to 99, so that neighbours differ in the first digit: 99 and 00 at its upper end,
    00 and 99 at its lower one. An angle beyond an end is written as that end.
    """

    system: str = ""

    def direction(self, angle: Way) -> str:
        """Return the place on the arc."""
        assert not isinstance(angle, tuple)
        share = (angle - self.arc.low) / (self.arc.high - self.arc.low)
        first = min(max(half_up(99 * share), 0), 99)
        return self._written((first, 99 - first))

    def ratings(self, points: Sequence[float]) -> str:
        """Return the ratings, at most 99."""
        return self._written([p if math.isnan(p) else min(_points(p), 99) for p in points])

    def read_direction(self, text: str) -> float | None:
        """Return the angle, to half a degree on an arc of 45."""
        found = self.read_ratings(text).get(self.named[0])
        return None if found is None else self.arc.low + found / 99 * (self.arc.high - self.arc.low)

    def read_ratings(self, text: str) -> dict[str, int]:
        """Return the numbers."""
        found = {name: re.search(rf"{re.escape(name)} (\d\d)\b", text) for name in self.named}
        return {name: int(match[1]) for name, match in found.items() if match}

    def _written(self, numbers: Sequence[float]) -> str:
        pairs = zip(self.named, numbers, strict=True)
        return " ".join(f"{name} {int(number):02d}" for name, number in pairs if not math.isnan(number))


@dataclass(frozen=True)
class Tally(Conditioning):
    """Each reward's name as often as it counts, `helpfulness helpfulness verbosity`: for models that learn no digits.

    A direction shares a fixed number of words out by its place on the arc: all are the first name at its upper end and
    the second at its lower one. A rating of 100 has as many words.
    """

    system: str = ""
    length: int = 12
    """Words of a direction; an arc of 45 degrees is then told to 2 degrees."""

    def direction(self, angle: Way) -> str:
        """Return the words."""
        assert not isinstance(angle, tuple)
        share = (angle - self.arc.low) / (self.arc.high - self.arc.low)
        first = min(max(half_up(self.length * share), 0), self.length)
        return self._written((first, self.length - first))

    def ratings(self, points: Sequence[float]) -> str:
        """Return the words."""
        return self._written([0 if math.isnan(p) else half_up(self.length * _points(p) / 100) for p in points])

    def read_direction(self, text: str) -> float | None:
        """Return the angle."""
        first, second = (text.split().count(name) for name in self.named)
        share = first / (first + second) if first + second else None
        return None if share is None else self.arc.low + share * (self.arc.high - self.arc.low)

    def read_ratings(self, text: str) -> dict[str, int]:
        """Return the counts as points."""
        counts = {name: text.split().count(name) for name in self.named}
        return {name: half_up(100 * count / self.length) for name, count in counts.items() if count}

    def _written(self, counts: Sequence[int]) -> str:
        return " ".join(name for name, count in zip(self.named, counts, strict=True) for _ in range(count))


FORMS: dict[str, type[Conditioning]] = {form.__name__: form for form in (WeightedRating, TwoDigits, Tally)}


def conditioning_of(values: Mapping[str, Any]) -> Conditioning:
    """Return the conditioning of plain values. Raises ValueError where they are none."""
    known = dict(values)
    form = known.pop("form", None)
    if form not in FORMS:
        raise ValueError(f"conditioning: form {form!r}, expected one of {', '.join(FORMS)}")
    try:
        known |= {"arc": Arc(**known["arc"]), "attributes": tuple(known["attributes"])}
        known["words"] = tuple(known["words"]) if known.get("words") else None
        if cap := known.get("cap"):
            known["cap"] = Cap(tuple(map(float, cap["axis"])), float(cap["degrees"]))
        return FORMS[form](**known)
    except (KeyError, TypeError) as error:
        raise ValueError(f"conditioning: {error}") from error


def _points(value: float) -> int:
    return min(max(half_up(value), 0), 100)
