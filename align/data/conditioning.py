"""Prompts that say how good the answer should be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from align.data.encoded_groups import GroupTable
from align.data.views import RegressionRows, View
from align.errors import ConfigError
from align.records import Example, Message
from align.records.asking import Scores, written_scores

TOP = 90
"""Percentile of the training scores that a model is asked for."""


@dataclass(frozen=True)
class ScoreConditioned(View):
    """One scored response per row, its known scores written behind the prompt (Hu et al. 2023, arXiv:2308.12050).

    The paper's "decision transformer": train on it with likelihood, and ask for a high score when sampling.
    """

    decimals: int = 1
    """Digits behind the point."""
    template: str = "{prompt}\n\n[{scores}]"
    """How the last user turn is written; scores read `name: value`, separated by commas."""

    def __post_init__(self) -> None:
        missing = [name for name in ("{prompt}", "{scores}") if name not in self.template]
        if missing:
            raise ConfigError(f"view.template must hold {{prompt}} and {{scores}}, got {self.template!r}")

    def groups(self, example: Example) -> Iterable[Example]:
        """Return groups of one."""
        return [self._conditioned(row) for row in RegressionRows().groups(example)]

    def asks(self, tables: Sequence[GroupTable]) -> Scores:
        """Return high scores of the training data: of each attribute the top decile."""
        known: dict[str, list[float]] = {}
        for table in tables:
            for response in (row for rows in table.rows["scores"] for row in rows):
                for name, score in zip(table.attributes, response, strict=True):
                    known.setdefault(name, []).extend([] if math.isnan(score) else [score])
        usual = {name: float(np.percentile(values, TOP)) for name, values in known.items() if values}
        return Scores(self.template, self.decimals, tuple(usual), tuple(usual.values()))

    def _conditioned(self, row: Example) -> Example:
        known = {n: s for n, s in zip(row.attributes, row.scores[0], strict=True) if not math.isnan(s)}
        text = written_scores(self.template, row.messages[-1].content, known, self.decimals)
        return replace(row, messages=(*row.messages[:-1], Message("user", text)))
