"""The view of a method: by the name of one that is shipped, or a view itself; what is neither is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import pytest

from align.cli.class_names import import_all
from align.data.encoding import limits_of
from align.data.fitting import VIEWS, view_of_method
from align.data.views import Pairs, Singles
from align.encoding.truncation import PRESETS, Truncation
from align.errors import ConfigError
from align.objectives.objective import Objective
from align.objectives.pairwise import DPO
from align.objectives.pointwise import KTO
from align.objectives.sums import PointSum, PointTerm
from align.records import TruncationPreset, ViewName
from align.training.base_module import AlignModule
from tests.cli.pluggable import subclasses


def test_every_name_stands_for_a_view_and_for_limits() -> None:
    assert set(VIEWS) == set(get_args(ViewName))
    assert set(PRESETS) == set(get_args(TruncationPreset))


def test_what_objectives_and_methods_name_is_there() -> None:
    for package in ("align.objectives", "align.modules"):
        import_all(package)
    kinds = [kind for base in (Objective, AlignModule) for kind in subclasses(base)]
    named = {kind: vars(kind)["view"] for kind in kinds if "view" in vars(kind)}
    assert len(named) > 15
    for kind, view in named.items():
        assert view_of_method(view, kind.__name__) is VIEWS[view]


def test_a_view_and_limits_may_be_given_themselves() -> None:
    view, limits = Pairs("all"), Truncation(max_total=77)
    assert view_of_method(view, "Mine") is view
    assert limits_of(limits) is limits
    assert limits_of("pro") == Truncation(384, 512, "cut", "cut")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("pair", "Mine trains on the view 'pair', expected one of pairs, lists, "),
        (Pairs, r"the view Pairs, a class: write Pairs\(\), expected one of pairs"),
        (object(), "an instance of a subclass of align.data.views.View"),
    ],
)
def test_what_is_no_view_is_told(wanted: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        view_of_method(wanted, "Mine")


@pytest.mark.bad_input
@pytest.mark.parametrize("wanted", ["long", Truncation, 512])
def test_what_are_no_limits_is_told(wanted: Any) -> None:
    with pytest.raises(ConfigError, match=r"truncation .*expected one of usual, sft, .*Truncation"):
        limits_of(wanted)


@pytest.mark.bad_input
def test_an_objective_that_requires_what_nobody_gives_is_told() -> None:
    with pytest.raises(
        ConfigError, match=r"objective Own requires refrence, .* expected some of reference, mismatched"
    ):

        @dataclass(frozen=True)
        class Own(DPO):
            requires = frozenset({"refrence"})  # type: ignore[arg-type]


def test_objectives_of_a_sum_share_their_view_whether_it_is_named_or_given() -> None:
    @dataclass(frozen=True)
    class Own(KTO):
        view = Singles("all")

    assert PointSum([PointTerm(Own()), PointTerm(Own())]).view == Singles("all")
    with pytest.raises(ValueError, match=r"one view of the data, got Singles\(responses='all'\) and unpaired"):
        PointSum([PointTerm(Own()), PointTerm(KTO())])
