"""What a run's rounds ask of the policy: prompts as the method asks it, or once per condition."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

from align.encoding.encoder import Encoder
from align.errors import ConfigError
from align.models.asked import ModelAsking
from align.records import Conditioning, Example
from align.records.reward_directions import Way
from align.rounds.conditioning_schedule import TOP, Rating, note, rating_targets
from align.rounds.round_folder import RoundFolder
from align.rounds.settings import RoundSettings
from align.sampling.generation import Request


class RoundPrompt(NamedTuple):
    """A prompt of a round, under one condition."""

    example: Example
    request: Request
    angle: Way | None = None
    """Of the direction the request asks for."""

    @property
    def hash(self) -> str:
        """Return a hash of its tokens."""
        return hashlib.sha256(repr(list(self.request.ids)).encode()).hexdigest()[:16]


@runtime_checkable
class ConditionedMethod(Protocol):
    """A method that writes conditions into its prompts."""

    conditioning: Conditioning

    def train_under(self, asks: dict[str, Any]) -> None:
        """Note what the prompts ask for that the method trains on from now on."""


def conditioning_of_method(module: object, settings: RoundSettings) -> Conditioning | None:
    """Return how a method writes conditions, None in rounds without them.

    Raises ConfigError for a method that writes none, and for rewards that the scorer does not have.
    """
    if settings.conditions is None:
        return None
    if not isinstance(module, ConditionedMethod):
        raise ConfigError(
            "align.callbacks.resampling.IterativeResampling.conditions needs DPARSFModule, which writes them"
        )
    found, known = module.conditioning, settings.scorer.attributes
    if missing := [name for name in found.attributes if name not in known]:
        raise ConfigError(
            f"conditioning.attributes names {missing[0]!r}, the scorer has {', '.join(known)}: name "
            "two of them, or score by a reward model that has it"
        )
    return found


def asked_plainly(example: Example, encoder: Encoder, asking: ModelAsking) -> list[RoundPrompt]:
    """Return a prompt as the method asks it."""
    messages = asking.apply(example.messages)
    ids = encoder.prompt_ids(messages, example.tools)
    return [RoundPrompt(example, Request(example.id, ids, messages, example.tools))]


def asked_under_conditions(
    number: int,
    example: Example,
    encoder: Encoder,
    *,
    settings: RoundSettings,
    conditioning: Conditioning,
    targets: Sequence[Rating],
) -> list[RoundPrompt]:
    """Return a prompt once per condition of its round; `targets` are the ratings that round 1 asks for."""
    assert settings.conditions is not None
    found, seed = [], settings.generation.seed
    conditions = settings.conditions.asked(number, example.id, conditioning, seed=seed, targets=targets)
    for place, asked in enumerate(conditions):
        messages = conditioning.apply(example.messages, asked.clause)
        ids = encoder.prompt_ids(messages, example.tools)
        request = Request(f"{example.id} {place}", ids, messages, example.tools)
        found.append(RoundPrompt(example, request, asked.angle))
    return found


def under_the_base_sentence(examples: Sequence[Example], conditioning: Conditioning | None) -> list[Example]:
    """Return records without a condition, as a method that writes some asks them."""
    if conditioning is None:
        return list(examples)
    return [replace(e, messages=conditioning.apply(e.messages)) for e in examples]


def targets_of(
    rounds: RoundFolder, settings: RoundSettings, conditioning: Conditioning | None, top: float = TOP
) -> list[Rating]:
    """Return ratings that go together in round 0, `top` the percentile of the first; none before it is sealed.

    They are those of its records: a response that cannot be trained on, such as an empty one, was never seen.
    """
    conditions = settings.conditions
    if conditions is None or conditioning is None or not conditions.rated_start:
        return []
    if (sealed := rounds.sealed(0)) is None:
        return []
    columns = [settings.scorer.attributes.index(name) for name in conditioning.attributes]
    points = [[record.scores[0][i] for i in columns] for record in rounds.read(0, sealed)]
    return rating_targets(points, conditions.targets, top=top, cap=conditioning.cap)


def note_of(
    rounds: RoundFolder, settings: RoundSettings, conditioning: Conditioning | None, number: int
) -> dict[str, Any]:
    """Return what the records of a round ask for; nothing in rounds without conditions.

    A model of round 0, which is SteerLM, is to be asked for the highest first reward seen with each of the second, as
    DPA's paper evaluates it.
    """
    if settings.conditions is None:
        return {}
    highest = targets_of(rounds, settings, conditioning, top=100) if settings.conditions.rated(number) else []
    return note(settings.conditions, number, highest)
