"""Whether a view that was asked for is one a method can train on; another fails at the first step, or not at all."""

from __future__ import annotations

from align.data.conditioning import ScoreConditioned
from align.data.hindsight import Hindsight
from align.data.scored_lists import ScoredLists
from align.data.views import Pairs, RankedLists, RegressionRows, Singles, Unpaired, View
from align.errors import ConfigError
from align.records import ViewName

LISTS = (Pairs, RankedLists, ScoredLists)
ONE = (Singles, Hindsight, ScoreConditioned, ScoredLists)
"""One response each, of those that are worth imitating; a list of one too."""
FITTING: dict[ViewName, tuple[type[View], ...]] = {
    "pairs": (Pairs,),
    **dict.fromkeys(("lists", "lists_by_reward", "lists_by_label"), LISTS),
    **dict.fromkeys(("singles", "worst", "either", "hindsight", "best_by_reward"), ONE),
    **dict.fromkeys(("regression", "win_rates"), (RegressionRows,)),
    "unpaired": (Unpaired,),
}
"""By the view a method has of its own."""


def check_view(view: View | None, wanted: ViewName, method: str) -> None:
    """Raise ConfigError for a view of ours that does not give what a method needs; a user's own is theirs to judge."""
    fitting = FITTING.get(wanted)
    if view is None or fitting is None or not type(view).__module__.startswith("align."):
        return
    single = fitting is ONE
    if not isinstance(view, fitting) or (single and getattr(view, "max_responses", 1) != 1):
        names = " or ".join(kind.__name__ for kind in fitting)
        one = ", of one response each" if single else ""
        raise ConfigError(
            f"--data.view {type(view).__name__}: {method} takes {wanted}, expected {names}{one}: leave data.view out "
            "to take what belongs to the method"
        )
