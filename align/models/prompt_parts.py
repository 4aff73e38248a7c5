"""The parts of a prompt that a way of asking puts there: a condition, ratings, an instruction, a system text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from align.errors import ConfigError
from align.models.condition_file import Conditions, Form
from align.records import Instructions, Message
from align.records.asking import CONDITIONS, Ask, Scores
from align.records.reward_directions import Way, parse_direction, vector

Dialogue = tuple[Message, ...]
OPTIONS = {
    "direction": "direction or angle",
    "ratings": "ratings, as in 80,20",
    "scores": "ratings, as in 9",
    "instruction": "under positive or negative",
    "nothing": "no condition",
}
"""What a model is given that was trained on prompts of a kind."""


@dataclass(frozen=True)
class PromptPart:
    """One thing that is put into a prompt, or done to the model."""

    told: str
    """In a few words."""
    text: str = ""
    """What the prompt says."""
    put: Callable[[Dialogue], Dialogue] | None = None
    leads: bool = True
    """Whether it stands before the query, where a prompt that is too long would lose it."""


def condition_parts(form: Form | None, ask: Ask, path: str) -> list[PromptPart]:
    """Return the condition, ratings or scores a model is asked for. Raises ConfigError for those of another form."""
    given = next((name for name in CONDITIONS if getattr(ask, name) is not None), None)
    kind = "nothing" if form is None else "instruction"
    if isinstance(form, Conditions | Scores):
        kind = "scores" if isinstance(form, Scores) else form.asks
    if given is not None and (kind in ("nothing", "instruction") or (given == "ratings") == (kind == "direction")):
        raise ConfigError(
            f"{given}: {path} was trained on prompts that ask for {kind}: give {_prefixed(OPTIONS[kind], kind)}"
        )
    if isinstance(form, Scores):
        return [_scored(form, ask, path)]
    if not isinstance(form, Conditions):
        return []
    own = form.conditioning
    if kind == "ratings":
        rating = form.best if ask.ratings is None else _points(ask.ratings, own.named)
        told, clause = "ratings " + ",".join(f"{value:g}" for value in rating), own.ratings(rating)
    else:
        way = _way(form, ask)
        told, clause = _directed(form, way), own.direction(way)
    return [PromptPart(told, f"{own.system} {clause}".strip(), lambda messages: own.apply(messages, clause))]


def _prefixed(words: str, kind: str) -> str:
    return words if kind == "nothing" else f"--{words}"


def _way(form: Conditions, ask: Ask) -> Way:
    own = form.conditioning
    if ask.angle is not None and len(own.named) > 2:
        raise ConfigError(f"angle: this model has {len(own.named)} rewards: give a direction, a weight of each")
    way: Way = own.region.middle if ask.angle is None else ask.angle
    if ask.direction is not None:
        way = parse_direction(ask.direction, own.named)
    if not own.region.holds(way):  # type: ignore[arg-type]
        what, place = ("direction", "cap") if isinstance(way, tuple) else (f"angle {way:.1f}", "arc")
        print(
            f"warning: {what} lies outside the {place} {own.region} this model was trained on, so what it does "
            "there is not known",
            file=sys.stderr,
        )
    return way


def _directed(form: Conditions, way: Way) -> str:
    first, *others = zip(vector(way), form.conditioning.named, strict=True)
    told = " ".join([f"direction {first[0]:.2f} {first[1]}", *(f"{weight:+.2f} {name}" for weight, name in others)])
    return told if isinstance(way, tuple) else f"{told} (angle {way:.1f} degrees)"


def _scored(form: Scores, ask: Ask, path: str) -> PromptPart:
    values = form.high if ask.ratings is None else _numbers(ask.ratings, form.names)
    text = ", ".join(f"{name} {value:.{form.decimals}f}" for name, value in zip(form.names, values, strict=True))
    return PromptPart(f"scores {text}", text, lambda messages: form.apply(messages, values), leads=False)


def _points(text: str, names: tuple[str, ...]) -> tuple[float, ...]:
    """Return ratings in points. Raises ConfigError for those that no prompt says: it would be another one."""
    values = _numbers(text, names)
    if not all(0 <= value <= 100 for value in values):
        raise ConfigError(f"ratings {text}: expected points from 0 to 100 for {' and '.join(names)}")
    return values


def _numbers(text: str, names: tuple[str, ...]) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != len(names) or not all(abs(value) < 1e9 for value in values):
        like = ",".join(["80"] * len(names))
        raise ConfigError(f"ratings {text}: expected points for {' and '.join(names)}, as in {like}")
    return values


def instruction_parts(form: Form | None, ask: Ask) -> list[PromptPart]:
    """Return the instruction or marker a model of a form stands under."""
    own = form if isinstance(form, Instructions) else None
    which = ask.under or ("positive" if own is not None else None)
    if which is None:
        return []
    texts = ask.instructions or own or Instructions()
    text = texts.positive if which == "positive" else texts.negative
    told = f"under the {which} {'marker' if texts.placement == 'end' else 'instruction'}"
    return [PromptPart(told, text, lambda messages: texts.apply(messages, which), texts.placement != "end")]


def with_system(messages: Dialogue, text: str) -> Dialogue:
    """Return a dialogue with a system text, in front of one that is there."""
    if messages and messages[0].role == "system":
        return (messages[0]._replace(content=f"{text}\n\n{messages[0].content}"), *messages[1:])
    return (Message("system", text), *messages)
