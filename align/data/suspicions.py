"""Signs in most rows of a file that it does not mean what its columns say; rows are kept, the user is told."""

from __future__ import annotations

import math
import re

from align.records import Example

SHORTEST = 8
"""Characters below which a question may begin an answer by chance."""
FIRST = 1000
"""Rows that are searched for markup."""
MARKUP = re.compile(
    r"<\|(?:im_start|start_header_id|user|assistant|prompter)\|>|\[/?INST\]|<start_of_turn>|"
    r"^### (?:Human|User|Assistant|Instruction|Response):|"
    r"\A\W{0,3}(?i:human|user|prompter|用户|人类)\W{0,3}[:：]",
    re.MULTILINE,
)
"""How chat templates and transcripts begin turns."""


class Suspicions:
    """Counts rows whose responses repeat their prompt, whose ranking contradicts their score, or that hold markup."""

    def __init__(self) -> None:
        self._rows = self._repeated = self._scored = self._against = self._marked = 0
        self._markup = ""

    def look(self, example: Example) -> None:
        """Count a row."""
        if not example.responses:
            return
        self._rows += 1
        if self._rows <= FIRST and (
            found := next(filter(None, (MARKUP.search(m.content) for m in example.messages)), None)
        ):
            self._marked, self._markup = self._marked + 1, found.group()
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
        looked_at = min(self._rows, FIRST)
        if self._marked * 2 > looked_at:
            found.append(
                f"in {self._marked} of {looked_at} rows the prompt holds {self._markup!r}, the markup of a chat "
                "template or a transcript, and is put inside the model's own: bring the turns into `messages`, without "
                "markup"
            )
        return found
