"""Which view a method trains on: its own by name or itself, and whether one that was asked for gives what it needs.

Another fails at the first step, or not at all.
"""

from __future__ import annotations

from align.data.conditioning import ScoreConditioned
from align.data.hindsight import Hindsight
from align.data.sampled_groups import SampledGroups
from align.data.scored_lists import ScoredLists
from align.data.views import Pairs, PromptsOnly, RankedLists, RegressionRows, Singles, Unpaired, View
from align.data.win_rate_rows import WinRateRows
from align.errors import ConfigError
from align.records import MethodView, ViewName

VIEWS: dict[ViewName, View] = {
    "pairs": Pairs(),
    "lists": RankedLists(),
    "lists_by_reward": ScoredLists(),
    "lists_by_label": ScoredLists("human"),
    "best_by_reward": ScoredLists(max_responses=1),
    "singles": Singles(),
    "worst": Singles("worst"),
    "either": Singles("random"),
    "hindsight": Hindsight(),
    "prompts": PromptsOnly(),
    "regression": RegressionRows(),
    "win_rates": WinRateRows(),
    "samples": SampledGroups(),
    "unpaired": Unpaired(),
}
"""The views that objectives and methods of ours name."""
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


def view_of_method(wanted: MethodView, method: str) -> View:
    """Return the view of a method. Raises ConfigError for a name that stands for none, or what is no view."""
    if isinstance(wanted, View):
        return wanted
    found = VIEWS.get(wanted) if isinstance(wanted, str) else None
    if found is None:
        given = f"{wanted.__name__}, a class: write {wanted.__name__}()" if isinstance(wanted, type) else repr(wanted)
        raise ConfigError(
            f"{method} trains on the view {given}, expected one of {', '.join(VIEWS)}, or a view of your own: an "
            "instance of a subclass of align.data.views.View"
        )
    return found


def check_view(view: View | None, wanted: MethodView, method: str) -> None:
    """Raise ConfigError for a view of ours that does not give what a method needs; a user's own is theirs to judge."""
    fitting = FITTING.get(wanted) if isinstance(wanted, str) else None
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
