"""What a run's rounds ask of the policy: prompts as the method asks it, or once per condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from align.encoding.encoder import Encoder
from align.errors import ConfigError
from align.records import Conditioning, Example
from align.rounds.conditioning_schedule import Rating, note, rating_targets
from align.rounds.finisher import RoundPrompt
from align.rounds.maker import RoundMaker
from align.rounds.settings import RoundSettings
from align.sampling.generation import Request


class RoundPrompts:
    """Writes the prompts of rounds, in the form of the method's module."""

    def __init__(self, trainer: Any, settings: RoundSettings, maker: RoundMaker) -> None:
        self.trainer, self.settings, self.maker = trainer, settings, maker
        self._targets: list[Rating] = []
        self._highest: list[Rating] = []

    @property
    def conditioning(self) -> Conditioning | None:
        """Return how the method writes conditions, None in rounds without them."""
        if self.settings.conditions is None:
            return None
        found: Conditioning | None = getattr(self.trainer.lightning_module, "conditioning", None)
        if found is None:
            raise ConfigError(
                "align.callbacks.resampling.IterativeResampling.conditions needs DPARSFModule, which writes them"
            )
        scorer = self.settings.scorer
        if missing := [name for name in found.attributes if name not in scorer.attributes]:
            raise ConfigError(
                f"conditioning.attributes names {missing[0]!r}, the scorer has {', '.join(scorer.attributes)}: name "
                "two of them, or score by a reward model that has it"
            )
        return found

    def rated(self, number: int) -> bool:
        """Tell whether a round takes the data's own responses."""
        return self.settings.conditions is not None and self.settings.conditions.rated(number)

    def prompts(self, number: int, example: Example, encoder: Encoder) -> list[RoundPrompt]:
        """Return a prompt as it is sampled: once as it is, or once per condition."""
        conditions, conditioning = self.settings.conditions, self.conditioning
        if conditions is None or conditioning is None:
            messages = self.trainer.lightning_module.asking.apply(example.messages)
            ids = encoder.prompt_ids(messages, example.tools)
            return [RoundPrompt(example, Request(example.id, ids, messages, example.tools))]
        seed, targets = self.settings.generation.seed, self.targets(number)
        found = []
        for place, asked in enumerate(conditions.asked(number, example.id, conditioning, seed=seed, targets=targets)):
            messages = conditioning.apply(example.messages, asked.clause)
            ids = encoder.prompt_ids(messages, example.tools)
            request = Request(f"{example.id} {place}", ids, messages, example.tools)
            found.append(RoundPrompt(example, request, asked.angle))
        return found

    def plain(self, examples: Sequence[Example]) -> list[Example]:
        """Return records under the base sentence alone."""
        own = self.conditioning
        return list(examples) if own is None else [replace(e, messages=own.apply(e.messages)) for e in examples]

    def targets(self, number: int) -> list[Rating]:
        """Return the ratings that round 1 asks for; none in other rounds."""
        conditions, conditioning = self.settings.conditions, self.conditioning
        if conditions is None or conditioning is None or not conditions.rated_start or number > 1:
            return []
        if not self._targets and self.maker.sealed(0) is not None:
            attributes = self.settings.scorer.attributes
            columns = [attributes.index(name) for name in conditioning.attributes]
            points = [[scores[i] for i in columns] for scores in self.maker.scores(0)]
            self._targets = rating_targets(points, conditions.targets, cap=conditioning.cap)
            self._highest = rating_targets(points, conditions.targets, top=100, cap=conditioning.cap)
        return self._targets

    def note(self, number: int) -> dict[str, Any]:
        """Return what the records of a round ask for; nothing in rounds without conditions.

        A model of round 0, which is SteerLM, is to be asked for the highest first reward seen with each of the second,
        as DPA's paper evaluates it.
        """
        conditions = self.settings.conditions
        if conditions is None:
            return {}
        self.targets(number)
        return note(conditions, number, self._highest)
