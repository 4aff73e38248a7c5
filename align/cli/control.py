"""What a trained model is asked for: a direction, by weights or angle, or ratings, as its folder says it is asked."""

from __future__ import annotations

import sys
from collections.abc import Callable

from align.errors import ConfigError
from align.models.condition_file import Conditions, needed_conditions
from align.records import Message
from align.records.directions import Way, parse_direction, vector

Dialogue = tuple[Message, ...]


def controlled(
    path: str, *, direction: str | None, angle: float | None, ratings: str | None
) -> Callable[[Dialogue], Dialogue]:
    """Return what puts a dialogue under what is asked for, and leaves it as it is where nothing is.

    Raises ModelError for a folder that does not say how it is asked, ConfigError for what it was not trained on.
    """
    given = [name for name, value in zip(GIVEN, (direction, angle, ratings), strict=True) if value is not None]
    if not given:
        return lambda dialogue: dialogue
    if len(given) > 1:
        raise ConfigError(f"{given[0]} and {given[1]} ask for two things: give one of them")
    known = needed_conditions(path)
    wanted = "ratings" if ratings is not None else "direction"
    if known.asks != wanted:
        usual = "--ratings, as in 80,20" if known.asks == "ratings" else "--direction or --angle"
        raise ConfigError(f"{given[0]}: {path} was trained on prompts that ask for {known.asks}: give {usual}")
    clause = (
        _rated(known, ratings) if ratings is not None else known.conditioning.direction(_way(known, direction, angle))
    )
    print(f"asked for: {known.conditioning.apply((), clause)[0].content}", file=sys.stderr)
    return lambda dialogue: known.conditioning.apply(dialogue, clause)


GIVEN = ("--direction", "--angle", "--ratings")


def _way(known: Conditions, direction: str | None, angle: float | None) -> Way:
    conditioning = known.conditioning
    if direction is None and len(conditioning.named) > 2:
        raise ConfigError(
            f"--angle: this model has {len(conditioning.named)} rewards: give --direction, a weight of each"
        )
    found = angle if direction is None else parse_direction(direction, conditioning.named)
    assert found is not None
    weights = ", ".join(f"{w:.2f} {name}" for w, name in zip(vector(found), conditioning.named, strict=True))
    what, place = ("direction", "cap") if isinstance(found, tuple) else (f"angle {found:.1f} degrees", "arc")
    print(f"{what}: {weights}", file=sys.stderr)
    if not conditioning.region.holds(found):  # type: ignore[arg-type]
        short = what.removesuffix(" degrees")
        print(
            f"warning: {short} lies outside the {place} {conditioning.region} this model was trained on, so what it "
            "does there is not known",
            file=sys.stderr,
        )
    return found


def _rated(known: Conditions, ratings: str) -> str:
    names = known.conditioning.named
    try:
        points = [float(part) for _, part in zip(names, ratings.split(","), strict=True)]
        return known.conditioning.ratings(points)
    except ValueError as error:
        usual = "80,20" if len(names) == 2 else ",".join(["80"] * len(names))
        raise ConfigError(f"--ratings {ratings}: expected points for {' and '.join(names)}, as in {usual}") from error
