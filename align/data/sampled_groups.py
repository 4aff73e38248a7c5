"""Samples of the policy, as they were drawn and all together: what online methods train on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from align.data.views import View
from align.records import Example, ViewName


@dataclass(frozen=True)
class SampledGroups(View):
    """The samples of a prompt as one group; a row of the data is its prompt, whatever responses it has."""

    def groups(self, example: Example) -> Iterable[Example]:
        """Return the example: with its samples, or with the end of a response in their place."""
        if example.response_ids:
            return [example]
        bare = replace(example, scores=(), attributes=(), ranking=(), origins=(), answers=(), contexts=(), responses=())
        return [replace(bare, responses=("",), response_ids=((),), whole=False)]


SAMPLE_VIEWS: dict[ViewName, View] = {"samples": SampledGroups()}
