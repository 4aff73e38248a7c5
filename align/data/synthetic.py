"""The synthetic world as data: preferences with known gold rewards, and the corpus of its base model."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator
from typing import Any

from align.data.data_module import PreferenceDataModule
from align.data.readers import Located
from align.data.source import Report, Source
from align.errors import ConfigError
from align.records import Example, Scale
from align.world.corpus import corpus
from align.world.gold_rewards import gold, read, request_of
from align.world.preferences import GRADES, RATED, Preferences, rating
from align.world.prompts import SplitName, draw_prompt
from align.world.universe import Prompt, World

TRIES = 200


class Synthetic(Source):
    """Draws examples: responses of mixed quality to a prompt, compared and rated by their gold rewards.

    The validation split has prompts that no training example has, the test split entities that none names.
    """

    streams = False

    def __init__(self, preferences: Preferences = Preferences(), world: World = World(), **options: Any) -> None:
        """Describe the data.

        Args:
            preferences: How many examples, and how responses are compared and rated.
            world: The universe.
            options: See Source.
        """
        super().__init__("synthetic", **options)
        self.preferences, self.world = preferences, world
        if not world.held_out_names:
            raise ConfigError("world.held_out_entities is 0: the test split needs at least one")
        if preferences.flattery and not world.language.flattery:
            raise ConfigError("preferences.flattery: nobody flatters in world 1: set world.version to 2")

    @property
    def kind(self) -> str:
        """Return what labels of the same meaning go by: the shape of the ratings."""
        return {"helpsteer": "hs", "ultrafeedback": "uf"}.get(self.preferences.ratings, self.preferences.ratings)

    @property
    def scales(self) -> dict[str, Scale]:
        """Return the grades of the shape; the gold rewards have no scale."""
        grades = GRADES.get(self.preferences.ratings)
        return dict.fromkeys(RATED[self.preferences.ratings], Scale(*grades)) if grades else {}

    def split_names(self) -> dict[str, list[str]]:
        """Return the splits, which are drawn apart."""
        return {name: [name] for name in ("train", "val", "test")}

    def fingerprint(self) -> str:
        """Return a hash of every setting."""
        return hashlib.sha256(repr((type(self).__name__, vars(self))).encode()).hexdigest()[:16]

    def _counted(self, name: str, report: Report) -> Iterator[Located]:
        count = self.preferences.size if name == "train" else self.preferences.held_out_size
        for place in range(count):
            report.read += 1
            yield Located(f"{name}-{place}", {"split": name})

    def parse(self, rows: Iterable[Located], report: Report) -> Iterator[Example]:
        """Draw the example of each place, from the seed and the place alone."""
        for where, row in rows:
            yield self.example(row["split"], where)

    def example(self, split: SplitName, name: str) -> Example:
        """Return one example."""
        draw = random.Random(f"{self.preferences.seed} {self.world.seed} {name}")
        prompt = draw_prompt(self.world, split, draw)
        request = request_of(self.world, prompt)
        responses = self._responses(prompt, draw)
        golds = [gold(self.world, prompt, r) for r in responses]
        readings = [read(self.world, request.entity, r) for r in responses]
        user = draw.choice(sorted(self.preferences.annotators))
        worths = [self.preferences.worth(user, g, r) for g, r in zip(golds, readings, strict=True)]
        order = self.preferences.rank(worths, draw)
        shape = self.preferences.ratings
        columns = list(range(len(RATED[shape])))
        if draw.random() < self.preferences.missing:
            half = len(columns) // 2
            columns = draw.choice((columns[:half], columns[half:]))
        rated = [rating(shape, g, r) for g, r in zip(golds, readings, strict=True)]
        return Example(
            id=name,
            messages=prompt,
            responses=responses,
            attributes=RATED[shape],
            scores=tuple(tuple(s if i in columns else float("nan") for i, s in enumerate(row)) for row in rated),
            ranking=tuple((i,) for i in order),
            user=user,
            source=self.name,
        )

    def _responses(self, prompt: Prompt, draw: random.Random) -> tuple[str, ...]:
        request = request_of(self.world, prompt)
        found: dict[str, None] = {}
        for _ in range(TRIES):
            found[self.world.answer(*request, draw)] = None
            if len(found) == self.preferences.responses:
                return tuple(found)
        raise ConfigError(
            f"preferences.responses: {TRIES} draws gave {len(found)} different responses to a prompt, expected "
            f"{self.preferences.responses}: lower it, or raise world.facts"
        )


class Corpus(Source):
    """Draws what the base model of a world learns from: one response per prompt."""

    streams = False

    def __init__(
        self,
        size: int,
        world: World = World(),
        *,
        checked: float = 0.25,
        tagged: float = 0.2,
        plain: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Describe the corpus.

        Args:
            size: How many rows.
            world: The universe.
            checked: Share of the requests for an answer whose facts are each checked.
            tagged: Share of the rows with a system turn.
            plain: Share of the rows that say all that is true of an entity.
            seed: Another seed draws other rows.
        """
        super().__init__("synthetic-corpus")
        self.size, self.world, self.checked, self.tagged, self.seed = size, world, checked, tagged, seed
        self.plain = plain

    fingerprint = Synthetic.fingerprint

    def split_names(self) -> dict[str, list[str]]:
        """Return one split: the corpus is drawn as a whole."""
        return {"train": ["train"], "val": [], "test": []}

    def _counted(self, name: str, report: Report) -> Iterator[Located]:
        shares = {"checked": self.checked, "tagged": self.tagged, "plain": self.plain}
        rows = corpus(self.world, random.Random(f"corpus {self.seed}"), **shares)
        for place, (prompt, response) in enumerate(itertools.islice(rows, self.size)):
            report.read += 1
            yield Located(f"{name}-{place}", {"prompt": prompt, "response": response})

    def parse(self, rows: Iterable[Located], report: Report) -> Iterator[Example]:
        """Return each row as an example."""
        for where, row in rows:
            yield Example(where, row["prompt"], (row["response"],), source=self.name)


class SyntheticDataModule(PreferenceDataModule):
    """Serves the synthetic world: training prompts, held-out prompts (val) and held-out entities (test)."""

    def __init__(self, preferences: Preferences = Preferences(), world: World = World(), **options: Any) -> None:
        """Describe the data.

        Args:
            preferences: How many examples, and how responses are compared and rated.
            world: The universe.
            options: See PreferenceDataModule.
        """
        super().__init__([Synthetic(preferences, world)], **options)
        self.world = world

    @property
    def worlds(self) -> dict[str, dict[str, Any]]:
        """Return the settings of the world."""
        return {"the synthetic data": self.world.settings}
