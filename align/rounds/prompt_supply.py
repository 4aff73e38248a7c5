"""The prompts of a run's rounds: the next ones of the data, and further ones for those that gave no record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_info

from align.data.data_module import PreferenceDataModule
from align.data.row_validation import prompt_id
from align.data.splits import divide_source
from align.distributed import on_first
from align.encoding.encoder import Encoder
from align.errors import ConfigError, DataError
from align.records import Conditioning, Example, Message
from align.rounds.plan import RoundPlan
from align.rounds.round_folder import RoundFolder
from align.rounds.round_prompts import (
    RoundPrompt,
    asked_plainly,
    asked_under_conditions,
    conditioning_of_method,
    targets_of,
)
from align.rounds.settings import RoundSettings


class Taken(NamedTuple):
    """Prompts of the data's shuffled order."""

    prompts: list[RoundPrompt]
    """Those that leave room for a whole response."""
    size: int
    """How many were taken from the order."""


class PromptSupply:
    """Chooses the prompts of rounds and encodes them."""

    def __init__(self, trainer: Any, data: PreferenceDataModule, settings: RoundSettings, rounds: RoundFolder) -> None:
        self.trainer, self.data, self.settings, self.rounds = trainer, data, settings, rounds
        self._pool: list[Example] = []

    def pool(self) -> list[Example]:
        """Return the training records, each prompt once."""
        if not self._pool:
            parts = [divide_source(source, self.data.splits)["train"][0] for source in self.data.sources]
            numbered = [(number, e) for number, part in enumerate(parts, 1) for e in part]
            first = {prompt_id(e.messages): (number, e) for number, e in reversed(numbered)}
            self._pool = told_apart(list(first.values())[::-1])
            self._tell([e for _, e in numbered])
        return self._pool

    def _tell(self, sources: Sequence[Example]) -> None:
        """Tell of rows whose prompt stands before, whose kept columns nobody reads, and of rounds of fewer prompts."""
        pool, wanted = self._pool, self.settings.prompts
        if len(pool) < len(sources):
            first = {prompt_id(e.messages): e.kept_columns for e in pool}
            other = sum(first[prompt_id(e.messages)] != e.kept_columns for e in sources)
            told = f", of which {other} have other values in kept columns, which are not read" if other else ""
            rows = f"{len(sources) - len(pool)} of {len(sources)} rows repeat a prompt of another"
            rank_zero_info(f"rounds: {len(pool)} different prompts; {rows}{told}")
        if wanted is not None and wanted > (found := len(pool) - len(self._too_long)):
            rank_zero_info(f"rounds: prompts is {wanted}, a round has the {found} that there are")

    def of_round(self, number: int) -> Taken:
        """Return the prompts of a round. Raises DataError where none leaves room for a response."""
        if self._longest < 1:
            raise DataError(
                f"round {number}: generation.max_new_tokens {self.settings.generation.max_new_tokens} leaves nothing "
                f"for prompts of the {self._encoder.truncation.max_total} tokens that both may have together: lower it"
            )
        chosen = self.settings.choose(self.pool(), number, self._first(number), self._too_long)
        kept = self._kept(number, chosen)
        if not kept:
            raise DataError(
                f"round {number}: every prompt has more than {self._longest} tokens, which is what max_total "
                f"{self._encoder.truncation.max_total} leaves beside generation.max_new_tokens "
                f"{self.settings.generation.max_new_tokens}: lower it, or leave such prompts out of the data"
            )
        return Taken(kept, len(chosen))

    def further(self, plan: RoundPlan, count: int) -> Taken:
        """Return so many prompts behind those of a round, fewer where the round has had all there are."""
        pool, out, first = self.pool(), self._too_long, (self._first(plan.number) or 0) + plan.taken
        chosen = self.settings.following(pool, plan.number, first, min(count, len(pool) - len(out) - plan.taken), out)
        return Taken(self._kept(plan.number, chosen), len(chosen))

    def _first(self, number: int) -> int | None:
        """Return the place in the order at which a round begins: behind the one before, which may have had further."""
        if not self.settings.refills:
            return None
        counts = on_first(lambda: [row.manifest["counts"] for row in self.rounds.store.rounds() if row.number < number])
        return sum(int(told.get("taken", told["prompts"])) for told in counts)

    def _kept(self, number: int, chosen: list[Example]) -> list[RoundPrompt]:
        """Return those that leave room for a whole response; the others are told."""
        found = self._asked(number, chosen)
        kept = [p for p in found if len(p.request.ids) <= self._longest]
        if len(kept) < len(found):
            rank_zero_info(f"round {number}: {len(found) - len(kept)} prompts over {self._longest} tokens are left out")
        self.settings.scorer.check_examples([prompt.example for prompt in kept])
        return kept

    @cached_property
    def _too_long(self) -> frozenset[str]:
        """Return the ids of prompts that leave no room for a whole response in any round; they are told."""
        pool, beside = self.pool(), self._size(Example("", (Message("user", "a"),)))
        # no text has more tokens than bytes: most prompts need no encoding
        doubtful = [e for e in pool if e.tools or beside * len(e.messages) + _bytes(e) > self._longest]
        found = frozenset(e.id for e in doubtful if self._size(e) > self._longest)
        if 0 < len(found) < len(pool):
            rank_zero_info(
                f"rounds: {len(found)} of {len(pool)} prompts have over {self._longest} tokens and are left out: "
                f"max_total {self._encoder.truncation.max_total} leaves no room for generation.max_new_tokens "
                f"{self.settings.generation.max_new_tokens} behind them"
            )
        return found

    def _size(self, example: Example) -> int:
        asking = self._conditioning or self.trainer.lightning_module.asking
        return len(self._encoder.prompt_ids(asking.apply(example.messages), example.tools))

    @property
    def _conditioning(self) -> Conditioning | None:
        return conditioning_of_method(self.trainer.lightning_module, self.settings)

    @property
    def _encoder(self) -> Encoder:
        assert self.data.encoder is not None
        return self.data.encoder

    @property
    def _longest(self) -> int:
        return self._encoder.truncation.max_total - self.settings.generation.max_new_tokens

    def _asked(self, number: int, chosen: Sequence[Example]) -> list[RoundPrompt]:
        if (conditioning := self._conditioning) is None:
            asking = self.trainer.lightning_module.asking
            return [prompt for example in chosen for prompt in asked_plainly(example, self._encoder, asking)]
        written: dict[str, Any] = {"settings": self.settings, "conditioning": conditioning}
        written["targets"] = targets_of(self.rounds, self.settings, conditioning) if number == 1 else []
        return [p for example in chosen for p in asked_under_conditions(number, example, self._encoder, **written)]


def _bytes(example: Example) -> int:
    return sum(len(text.encode()) for message in example.messages for text in message[1:4])


def told_apart(pool: Sequence[tuple[int, Example]]) -> list[Example]:
    """Return records with ids of their own, by the number of their source where several use one, such as `line 1`.

    Raises ConfigError for an id that stands twice in a source.
    """
    often = Counter(e.id for _, e in pool)
    found = [replace(e, id=f"{e.id} of source {number}") if often[e.id] > 1 else e for number, e in pool]
    for name, count in Counter(e.id for e in found).most_common(1):
        if count > 1:
            raise ConfigError(
                f"data: {count} rows of different prompts have one id ({name}), by which rounds keep their samples: "
                "give every row an id of its own, or leave the column out"
            )
    return found
