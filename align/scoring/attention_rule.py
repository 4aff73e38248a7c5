"""What a layer's attention does beside a softmax over all that a token sees."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class AttentionRule(NamedTuple):
    """Windows, soft caps and sinks, as a layer asks for them."""

    window: int | None = None
    """A token sees itself and the `window - 1` before it."""
    softcap: float | None = None
    """Scores s become c tanh(s / c) (Gemma Team 2024, arXiv:2408.00118, section 2)."""
    sinks: Float[Tensor, " head"] | None = None
    """One more score per head, of a key whose value is 0 (Xiao et al. 2023, arXiv:2309.17453, as learnt by gpt-oss)."""

    def within(self, longest: int) -> AttentionRule:
        """Return the rule for candidates of so many tokens at most: a window that none of them leaves is none."""
        return self if self.window is None or longest > self.window else self._replace(window=None)

    @property
    def plain(self) -> bool:
        """Tell whether there is nothing beside the softmax."""
        return self.window is None and self.softcap is None and self.sinks is None


PLAIN_RULE = AttentionRule()
