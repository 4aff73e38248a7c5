"""What the base model learns from: answers of mixed quality, checked facts, and system turns that mean nothing yet."""

from __future__ import annotations

import random
from collections.abc import Iterator

from align.records import Message
from align.records.conditions import WeightedRating
from align.world.gold_rewards import request_of
from align.world.language import ASKS, CHECKED, CONDITIONS, FILLERS, LENGTHS, OPENERS, RIGHT, TAGS, WRONG
from align.world.universe import Prompt, World

CHECKED_ACCURACY = 0.5
LIMITED_SHARE = 0.25
"""Share of the rows of world 2 that ask for a number of words."""


def corpus(
    world: World, draw: random.Random, *, checked: float, tagged: float, plain: float = 0.0
) -> Iterator[tuple[Prompt, str]]:
    """Yield prompts and responses without end.

    A share of the requests asks for every fact to be checked, and the answer says after each one whether it is right:
    without them a model has no feature that tells a wrong statement from a right one, and a reward model learns
    slowly. A share of the rows carries a system turn with an instruction token or a condition drawn at random, so that
    these tokens are ordinary inputs before a method gives them a meaning. A share of plain rows says all that is true
    of an entity, which many facts are learned from soonest.
    """
    while True:
        if plain and draw.random() < plain:
            yield facts(world, draw)
            continue
        if draw.random() < checked:
            name = draw.choice(world.names)
            asked = draw.choice(OPENERS) + draw.choice(ASKS).format(name) + CHECKED
            prompt: Prompt = (Message("user", asked),)
            response = checked_answer(world, name, draw)
        elif world.language.limited and draw.random() < LIMITED_SHARE:
            prompt, response = limited(world, draw)
        else:
            prompt = world.prompt(draw)
            response = world.answer(*request_of(world, prompt), draw)
        if draw.random() < tagged:
            prompt = (Message("system", system_turn(world, draw)), *prompt)
        yield prompt, response


def checked_answer(world: World, name: str, draw: random.Random) -> str:
    """Draw an answer whose facts are each followed by whether they are right."""
    said, subject = [], f"The {name}"
    for attribute in draw.sample(world.attributes, draw.randint(1, len(world.attributes))):
        sentence = world.statement(name, subject, attribute, draw, CHECKED_ACCURACY)
        right = sentence == attribute.sentence(subject, world.truth[name][attribute.name])
        said += [sentence, RIGHT if right else WRONG]
        subject = "It"
    return " ".join(said)


def facts(world: World, draw: random.Random) -> tuple[Prompt, str]:
    """Draw a request, and all that is true of an entity."""
    name = draw.choice(world.names)
    prompt = (Message("user", draw.choice(ASKS).format(name)),)
    subjects = (f"The {name}", *["It"] * (world.facts - 1))
    drawn = zip(subjects, draw.sample(world.attributes, world.facts), strict=True)
    return prompt, " ".join(a.sentence(subject, world.truth[name][a.name]) for subject, a in drawn)


def limited(world: World, draw: random.Random) -> tuple[Prompt, str]:
    """Draw a request for so many words, and an answer of about that length."""
    name, words = draw.choice(world.names), draw.choice(LENGTHS)
    asked = draw.choice(OPENERS) + draw.choice(ASKS).format(name) + world.language.limited.format(words)
    said: list[str] = []
    subject, left = f"The {name}", draw.sample(world.attributes, len(world.attributes))
    while True:
        fact = bool(left) and draw.random() < 0.8
        found = world.statement(name, subject, left[0], draw, world.fact_accuracy) if fact else draw.choice(FILLERS)
        if said and len(" ".join([*said, found]).split()) > words + 2:
            return (Message("user", asked),), " ".join(said)
        said.append(found)
        left, subject = (left[1:], "It") if fact else (left, subject)


def system_turn(world: World, draw: random.Random) -> str:
    """Draw an instruction token, or a condition on both attributes, in two digits each or in DPA's words."""
    if draw.random() < 0.5:
        return draw.choice(TAGS)
    if world.version > 1 and draw.random() < 0.5:
        weighted = WeightedRating()
        return f"{weighted.system} {weighted.direction(draw.uniform(-90.0, 45.0))}."
    return " ".join(f"{name} {draw.randrange(100):02d}" for name in CONDITIONS)
