"""Signs in most rows of a file that it does not mean what its columns say; rows are kept, the user is told."""

from __future__ import annotations

import math

from align.records import Example

SHORTEST = 8
"""Characters below which a question may begin an answer by chance."""


class Suspicions:
    """Counts rows whose responses repeat their prompt, and rows whose ranking and score contradict each other."""

    def __init__(self) -> None:
        self._rows = self._repeated = self._scored = self._against = 0

    def look(self, example: Example) -> None:
        """Count a row."""
        if not example.responses:
            return
        self._rows += 1
        asked = example.messages[-1].content.strip()
        if len(asked) >= SHORTEST and not example.contexts:
            self._repeated += all(response.lstrip().startswith(asked) for response in example.responses)
        if len(example.attributes) == 1 and len(example.ranking) > 1 and example.scores:
            best, worst = (example.scores[group[0]][0] for group in (example.ranking[0], example.ranking[-1]))
            self._scored += best != worst and not math.isnan(best + worst)
            self._against += best < worst

    def told(self) -> list[str]:
        """Return what more than half of the rows show."""
        found = []
        if self._repeated * 2 > self._rows:
            found.append(
                f"in {self._repeated} of {self._rows} rows every response begins with its own prompt, which is learnt "
                "as a part of the answer: take it out of the responses, or drop the prompt column"
            )
        if self._against * 2 > self._scored:
            found.append(
                f"in {self._against} of {self._scored} rows the response ranked best has the lower score: swap the two "
                "columns, or turn the sign of a score of which less is better"
            )
        return found
