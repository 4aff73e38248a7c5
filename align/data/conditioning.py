"""Prompts that say how good the answer should be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from align.data.views import RegressionRows, View
from align.errors import ConfigError
from align.records import Example, Message


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

    def _conditioned(self, row: Example) -> Example:
        known = [
            f"{name}: {score:.{self.decimals}f}"
            for name, score in zip(row.attributes, row.scores[0], strict=True)
            if not math.isnan(score)
        ]
        text = self.template.replace("{scores}", ", ".join(known)).replace("{prompt}", row.messages[-1].content)
        return replace(row, messages=(*row.messages[:-1], Message("user", text)))
