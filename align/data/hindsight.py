"""Chain of Hindsight as rows of one response each: what the paper trains on in one sequence, taken apart exactly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from align.data.encoded_groups import GroupTable
from align.data.source import DroppedRow
from align.data.views import Pairs, View
from align.errors import ConfigError
from align.records import Example, Instructions, Message, Which

Form = Literal["p", "n", "np", "pn"]
FORMS: tuple[Form, ...] = ("p", "n", "np", "pn")


@dataclass(frozen=True)
class Hindsight(View):
    """Chain of Hindsight (Liu et al. 2023, arXiv:2302.02676, section 2): responses after words that rate them.

    The forms are `p`: good marker, chosen; `n`: bad marker, rejected; `np`: bad marker, rejected, good marker, chosen;
    `pn` the other way round. The loss counts tokens of responses only, so the first response of `np` is the row `n`
    once more and its second response a row whose prompt holds the first: rows with weights are the same loss. Markers
    end the user's turn, and a second marker is a turn of its own, since chat templates write what lies between. The
    released code puts loss on every earlier assistant turn as well, tagged good and bad alike, and packs rows without
    separating them; its past-token masking (off by default there) and the likelihood of raw text are left out.
    """

    good: str = "A helpful answer:"
    """Comes before a chosen response."""
    bad: str = "An unhelpful answer:"
    """Comes before a rejected response."""
    forms: Sequence[Form] = FORMS
    """Which sequences are trained on."""

    def __post_init__(self) -> None:
        if not self.forms or not set(self.forms) <= set(FORMS):
            raise ConfigError(f"data.view.forms: expected some of {FORMS}, got {list(self.forms)}")

    @property
    def markers(self) -> Instructions:
        """Return the markers, which end the user's turn."""
        return Instructions(self.good, self.bad, "end")

    def asks(self, tables: Sequence[GroupTable]) -> Instructions:
        """Return the markers: the good one asks for a good response."""
        return self.markers

    def groups(self, example: Example) -> Iterable[Example]:
        """Return up to four groups of one response, weighted by how many forms hold them."""
        pair = next(iter(Pairs().groups(example)))
        if pair.answers or pair.contexts:
            raise DroppedRow("response is more than a text to a shared prompt")
        if pair.response_ids:
            raise DroppedRow("sample cut off at its limit, whose text would be followed by a marker")
        chosen, rejected = pair.responses
        bare = replace(pair, attributes=(), scores=(), origins=())
        rows = (
            ("#p", self._asked(pair, "positive"), chosen, {"p", "pn"}),
            ("#n", self._asked(pair, "negative"), rejected, {"n", "np"}),
            ("#np", self._asked(pair, "negative", rejected, self.good), chosen, {"np"}),
            ("#pn", self._asked(pair, "positive", chosen, self.bad), rejected, {"pn"}),
        )
        made = [
            replace(
                bare, id=pair.id + suffix, messages=messages, responses=(text,), ranking=((0,),), weight=pair.weight * n
            )
            for suffix, messages, text, held_by in rows
            if (n := len(held_by & set(self.forms)))
        ]
        if not made:
            raise DroppedRow("no form")
        return made

    def _asked(self, pair: Example, which: Which, *earlier: str) -> tuple[Message, ...]:
        asked = self.markers.apply(pair.messages, which)
        if not earlier:
            return asked
        response, next_marker = earlier
        return (*asked, Message("assistant", response), Message("user", next_marker))
