"""Krippendorff's alpha: the published example, NLTK's own loop, and what it is not defined on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from nltk.metrics.agreement import AnnotationTask
from nltk.metrics.distance import binary_distance, interval_distance

from align.evaluation.krippendorff import alpha_interval, krippendorff_alpha

NONE = None
EXAMPLE = [  # four observers of twelve units: Krippendorff 2011, section C
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
    [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
]
UNITS = [list(unit) for unit in zip(*EXAMPLE, strict=True)]
VALUES = [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_published_example(level: Any, published: float) -> None:
    assert krippendorff_alpha(UNITS, VALUES, level) == pytest.approx(published, abs=5e-4)
    interval = alpha_interval([[unit] for unit in UNITS], VALUES, level)
    assert interval.value == pytest.approx(published, abs=5e-4)
    assert interval.low < interval.value < interval.high <= 1


@pytest.mark.parametrize(("level", "distance"), [("nominal", binary_distance), ("interval", interval_distance)])
def test_equals_nltk(level: Any, distance: Any) -> None:
    draw = np.random.default_rng(0)
    said = draw.integers(1, 6, size=(30, 4))
    gone = draw.random((30, 4)) < 0.3
    rows = [(str(r), str(u), int(said[u, r])) for u in range(30) for r in range(4) if not gone[u, r]]
    units = [[None if gone[u, r] else int(said[u, r]) for r in range(4)] for u in range(30)]
    many = {u for _, u, _ in rows if sum(1 for row in rows if row[1] == u) > 1}
    theirs = AnnotationTask([row for row in rows if row[1] in many], distance=distance).alpha()
    assert krippendorff_alpha(units, VALUES, level) == pytest.approx(theirs, abs=1e-12)


def test_values_that_nobody_gave_change_nothing() -> None:
    """Ordinal distances count ratings between two values: a value without ratings adds nothing."""
    wide = krippendorff_alpha(UNITS, [0, *VALUES, 6, 7], "ordinal")
    assert wide == pytest.approx(krippendorff_alpha(UNITS, VALUES, "ordinal"), abs=1e-15)


def test_not_defined() -> None:
    assert math.isnan(krippendorff_alpha([[1, None], [None, 2]], VALUES, "nominal"))  # nothing rated twice
    assert math.isnan(krippendorff_alpha([[1, 1], [1, 1]], VALUES, "nominal"))  # chance is certain
    assert krippendorff_alpha([["no", "no"], ["yes", "yes"]], ["yes", "no"], "nominal") == 1


def test_units_of_one_cluster_are_drawn_together() -> None:
    """Two copies of every unit inside its cluster leave alpha almost as it is and the interval no narrower."""
    once = alpha_interval([[unit] for unit in UNITS], VALUES, "interval")
    twice = alpha_interval([[unit, unit] for unit in UNITS], VALUES, "interval")
    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.1)
