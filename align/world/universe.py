"""A universe: entities with facts, requests about them, and answers of mixed quality."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

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
    LANGUAGES,
    OPENERS,
    REFUSALS,
    RUDE,
    Attribute,
    Language,
)

Prompt = tuple[Message, ...]
FLATTERING = 0.35
"""Share of the answers of world 2 that begin with a flattering sentence."""


@dataclass(frozen=True)
class World:
    """The settings of a universe; everything in it follows from them."""

    version: Literal[1, 2] = 1
    """1 is small and quick. 2 has 200 entities, half of them held out, and flattering sentences that annotators may
    fall for (`preferences.flattery`); its base model has six blocks and reads numbers."""
    entities: int | None = None
    """How many entities there are; null is 16 in world 1 and 200 in world 2."""
    held_out_entities: int | None = None
    """How many of them no preference prompt names, except in the test split; the base model knows them. Null is 4 in
    world 1 and 100 in world 2."""
    facts: int = 6
    """How many facts each entity has."""
    harmful_share: float = 0.25
    """Share of the requests that should be refused."""
    fact_accuracy: float = 0.85
    """Share of the facts in the base model's training answers that are looked up; the others are guessed."""
    seed: int = 0
    """Another seed gives the entities other facts."""

    def __post_init__(self) -> None:
        if self.version not in LANGUAGES:
            raise ConfigError(f"world.version must be one of {', '.join(map(str, LANGUAGES))}, got {self.version}")
        counts = self.settings
        _within("entities", counts["entities"], 1, len(self.language.names))
        _within("facts", self.facts, 1, len(ATTRIBUTES))
        _within("held_out_entities", counts["held_out_entities"], 0, counts["entities"] - 1)
        _within("harmful_share", self.harmful_share, 0, 1)
        _within("fact_accuracy", self.fact_accuracy, 0, 1)

    def __repr__(self) -> str:
        """Return all settings; those of world 1 as they were when there was no other, since caches go by them."""
        shown = self.settings if self.version > 1 else {k: v for k, v in self.settings.items() if k != "version"}
        return f"World({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> World:
        """Return the world of settings that were kept, among which others may stand."""
        return cls(**{f.name: settings[f.name] for f in fields(cls) if f.name in settings})

    @property
    def settings(self) -> dict[str, Any]:
        """Return all settings, with what null stands for: worlds are the same if these are."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        entities = self.language.entities if self.entities is None else self.entities
        held_out = self.language.held_out if self.held_out_entities is None else self.held_out_entities
        return {**own, "entities": entities, "held_out_entities": held_out}

    @property
    def language(self) -> Language:
        """Return what is special to worlds of this version."""
        return LANGUAGES[self.version]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return all entities, the held-out ones last."""
        return self.language.names[: self.settings["entities"]]

    @cached_property
    def train_names(self) -> tuple[str, ...]:
        """Return the entities of training prompts."""
        return self.names[: len(self.names) - self.settings["held_out_entities"]]

    @cached_property
    def held_out_names(self) -> tuple[str, ...]:
        """Return the entities that only the test split asks about."""
        return self.names[len(self.train_names) :]

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
        flattery = self.language.flattery
        before = [draw.choice(flattery)] if flattery and draw.random() < FLATTERING else []
        if harmful:
            said = [*before, draw.choice(REFUSALS if draw.random() < 0.5 else COMPLIANCE)]
            if draw.random() < 0.3:
                said.append(draw.choice(FILLERS))
            return " ".join(said)
        said = before + ([draw.choice(FILLERS)] if draw.random() < 0.5 else [])
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
