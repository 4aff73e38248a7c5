"""More responses for the records of a preference dataset, taken from files of other models' generations."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from align.data.row_validation import prompt_id, text_fault
from align.data.source import Report
from align.errors import ConfigError
from align.records import Example

Generations = Mapping[str, Mapping[str, Sequence[str]]]
"""By source: responses by the hash of their prompt."""


@dataclass(frozen=True)
class Expansion:
    """Which sources a list is filled up from, in order (PRO, arXiv:2306.17492, section on expanding to length 5).

    The paper's five plans are one weak model three times, one strong model three times, three models from weak to
    strong, from strong to weak, and in random order; the first `length - n` sources of a plan are taken.
    """

    length: int
    """Responses of a list, those of the data among them."""
    plan: tuple[str, ...]
    """Sources in order; one named several times gives a further generation each time."""
    order: Literal["given", "random"] = "given"
    """Take the plan as it stands, or shuffled for every record."""
    seed: int = 0
    """Of the random order."""

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ConfigError(f"length must be at least 2, got {self.length}")

    def expand(self, example: Example, generations: Generations, report: Report) -> Example:
        """Return the example with its first responses, then further ones; counts those that are missing or repeated.

        Added responses have no rank, so an example that got some has no ranking any more.
        """
        plan = list(self.plan)
        if self.order == "random":
            random.Random(f"{self.seed} {example.id}").shuffle(plan)
        texts = list(example.responses[: self.length])
        origins = list(example.origins or ("data",) * len(texts))[: len(texts)]
        used = dict.fromkeys(self.plan, 0)
        for source in plan[: max(self.length - len(texts), 0)]:
            found = generations[source].get(prompt_id(example.messages), ())
            text = found[used[source]] if used[source] < len(found) else None
            used[source] += 1
            fault = f"no generation of {source}" if text is None else text_fault(text)
            if text in texts:
                fault = f"generation of {source} repeats a response"
            if fault or text is None:
                report.drop(fault or "", example.id)
                continue
            texts.append(text)
            origins.append(source)
        return replace(example, responses=tuple(texts), origins=tuple(origins), ranking=(), scores=(), attributes=())


def by_prompt(examples: Iterable[Example]) -> dict[str, list[str]]:
    """Return the responses of generated rows by the hash of their prompt."""
    found: dict[str, list[str]] = {}
    for example in examples:
        found.setdefault(prompt_id(example.messages), []).extend(example.responses)
    return found
