"""Samples of the policy, as they were drawn: what online methods train on, all together or in pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from align.data.views import Pairs, View
from align.records import Example


@dataclass(frozen=True)
class SampledGroups(View):
    """The samples of a prompt as one group; a row of the data is its prompt, whatever responses it has."""

    drawn_in_rounds: ClassVar[bool] = True

    def groups(self, example: Example) -> Iterable[Example]:
        """Return the example: with its samples, or with the end of a response in their place."""
        if example.response_ids:
            return [example]
        return [_prompt_alone(example)]


class DrawnPairs(Pairs):
    """The pairs of rounds, for data that have prompts: a row is its prompt, whatever responses it has.

    With `IterativeResampling` and a selection of tokens, such as DrawnPair; there is nothing to validate on.
    """

    drawn_in_rounds: ClassVar[bool] = True

    def groups(self, example: Example) -> Iterable[Example]:
        """Return the pair, or the prompt with the end of a response."""
        return super().groups(example) if example.response_ids else [_prompt_alone(example)]


def _prompt_alone(example: Example) -> Example:
    """Return a row of the data as its prompt, with the end of a response in the place of samples."""
    bare = replace(example, scores=(), attributes=(), ranking=(), origins=(), answers=(), contexts=(), responses=())
    return replace(bare, responses=("",), response_ids=((),), whole=False)
