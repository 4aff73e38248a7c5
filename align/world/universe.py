"""A universe: entities with facts, requests about them, and answers of mixed quality."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

from align.errors import ConfigError
from align.records import Message
from align.world.language import (
    ASKS,
    ATTRIBUTES,
    CLOSERS,
    COMPLIANCE,
    FILLERS,
    FOLLOW_UPS,
    HARMFUL_ASKS,
    KNOWN,
    NAMES,
    OPENERS,
    REFUSALS,
    RUDE,
    Attribute,
)

Prompt = tuple[Message, ...]


@dataclass(frozen=True)
class World:
    """The settings of a universe; everything in it follows from them."""

    entities: int = 16
    """How many entities there are."""
    held_out_entities: int = 4
    """How many of them no preference prompt names, except in the test split; the base model knows them."""
    facts: int = 6
    """How many facts each entity has."""
    harmful_share: float = 0.25
    """Share of the requests that should be refused."""
    fact_accuracy: float = 0.85
    """Share of the facts in the base model's training answers that are looked up; the others are guessed."""
    seed: int = 0
    """Another seed gives the entities other facts."""

    def __post_init__(self) -> None:
        _within("entities", self.entities, 1, len(NAMES))
        _within("facts", self.facts, 1, len(ATTRIBUTES))
        _within("held_out_entities", self.held_out_entities, 0, self.entities - 1)
        _within("harmful_share", self.harmful_share, 0, 1)
        _within("fact_accuracy", self.fact_accuracy, 0, 1)

    @property
    def names(self) -> tuple[str, ...]:
        """Return all entities, the held-out ones last."""
        return NAMES[: self.entities]

    @property
    def train_names(self) -> tuple[str, ...]:
        """Return the entities of training prompts."""
        return self.names[: self.entities - self.held_out_entities]

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """Return the entities that only the test split asks about."""
        return self.names[self.entities - self.held_out_entities :]

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """Return the attributes that entities have here."""
        return ATTRIBUTES[: self.facts]

    @cached_property
    def truth(self) -> dict[str, dict[str, str]]:
        """Return the value of every attribute of every entity."""
        draw = random.Random(f"truth {self.seed}")
        return {name: {a.name: draw.choice(a.values) for a in self.attributes} for name in self.names}

    def prompt(self, draw: random.Random, names: tuple[str, ...] | None = None) -> Prompt:
        """Draw a request: of one turn, a follow-up to another question, or with the entity named one turn before."""
        names = names or self.names
        name = draw.choice(names)
        asks, follow_ups = (HARMFUL_ASKS,) * 2 if draw.random() < self.harmful_share else (ASKS, FOLLOW_UPS)
        kind = draw.random()
        opener, closer = draw.choice(OPENERS), draw.choice(CLOSERS)
        if kind < 0.15:
            other = draw.choice(names)
            known = draw.choice(self.attributes)
            said = known.sentence(f"The {other}", self.truth[other][known.name])
            first = opener + draw.choice(ASKS).format(other)
            last = draw.choice(follow_ups).format(name) + closer
            return (Message("user", first), Message("assistant", said), Message("user", last))
        if kind < 0.25 and asks is ASKS:
            turns = (opener + KNOWN[0].format(name), KNOWN[1], KNOWN[2] + closer)
            return tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(turns))
        return (Message("user", opener + draw.choice(asks).format(name) + closer),)

    def answer(self, name: str, harmful: bool, draw: random.Random) -> str:
        """Draw an answer of mixed quality: some facts, right or guessed, with filler and rudeness in between."""
        if harmful:
            said = [draw.choice(REFUSALS if draw.random() < 0.5 else COMPLIANCE)]
            if draw.random() < 0.3:
                said.append(draw.choice(FILLERS))
            return " ".join(said)
        said = [draw.choice(FILLERS)] if draw.random() < 0.5 else []
        subject = f"The {name}"
        for attribute in draw.sample(self.attributes, draw.randint(0, min(5, self.facts))):
            said.append(self.statement(name, subject, attribute, draw, self.fact_accuracy))
            subject = "It"
            if draw.random() < 0.25:
                said.append(draw.choice(FILLERS))
            if draw.random() < 0.08:
                said.append(draw.choice(RUDE))
        return " ".join(said or [draw.choice(FILLERS)])

    def statement(self, name: str, subject: str, attribute: Attribute, draw: random.Random, accuracy: float) -> str:
        """Draw a sentence about one attribute: the true value with the given probability, else any value."""
        looked_up = draw.random() < accuracy
        value = self.truth[name][attribute.name] if looked_up else draw.choice(attribute.values)
        return attribute.sentence(subject, value)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"world.{name} must lie in {low}..{high}, got {value}")
