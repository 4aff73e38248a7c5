"""What reports on runs compute, against brute force: wins, the best, settings that differ, smoothed curves, names."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from align.evaluation.pairwise_wins import best, win_matrix
from align.evaluation.report_inputs import names_of
from align.evaluation.run_figures import smoothed
from align.evaluation.settings_diff import differences


def test_win_matrix_against_counting() -> None:
    draw = random.Random(0)
    values = {name: [draw.choice([0.0, 1.0, 2.0, math.nan]) for _ in range(60)] for name in "abc"}
    found = win_matrix(values)
    assert set(found) == {(a, b) for a in "abc" for b in "abc" if a != b}
    for (a, b), interval in found.items():
        pairs = [(x, y) for x, y in zip(values[a], values[b], strict=True) if not math.isnan(x + y)]
        wins = sum(1.0 if x > y else 0.5 if x == y else 0.0 for x, y in pairs)
        assert interval.value == pytest.approx(wins / len(pairs))
        assert interval.low < interval.value < interval.high
        mirror = found[b, a]
        assert (mirror.value, mirror.low, mirror.high) == pytest.approx(
            (1 - interval.value, 1 - interval.high, 1 - interval.low)
        )
    assert not win_matrix({"a": [math.nan], "b": [1.0]})
    with pytest.raises(ValueError, match="different prompts"):
        win_matrix({"a": [1.0], "b": [1.0, 2.0]})


def test_best_only_beyond_the_noise() -> None:
    """Pairing matters: a small shift of every prompt counts though the prompts themselves vary by far more."""
    draw = random.Random(1)
    base = [draw.gauss(0, 10) for _ in range(100)]
    noisy = [draw.gauss(0.1, 10) for _ in range(100)]
    shifted = [v + 0.1 + draw.gauss(0, 0.1) for v in base]
    assert best({"base": base, "shifted": shifted}) == "shifted"
    assert best({"base": base, "noisy": noisy}) is None
    assert best({"base": base, "shifted": shifted, "twin": list(shifted)}) is None
    assert best({"base": base}) is None
    assert best({"one": [1.0], "two": [2.0]}) is None  # one prompt has no spread, and tells nothing


def test_settings_that_differ() -> None:
    first = {"a": {"init_args": {"x": 1, "y": None}}, "l": [1, 2], "trainer": {"default_root_dir": "u"}}
    second = {"a": {"init_args": {"x": 2, "y": None}}, "l": [1], "trainer": {"default_root_dir": "v"}}
    assert differences([first, second]) == {"a.x": ["1", "2"], "l.1": ["2", "—"]}
    assert differences([first, first]) == {}
    assert differences([{"a": None}, {"b": 1}]) == {"b": ["—", "1"]}  # not set is as good as not there
    callbacks = [{"class_path": f"callbacks.{name}", "init_args": {"n": 1}} for name in ("A", "B")]
    one, two = ({"trainer": {"callbacks": c}} for c in (callbacks, callbacks[1:]))
    assert differences([one, two]) == {  # B does not shift
        "trainer.callbacks.A.class_path": ["callbacks.A", "—"],
        "trainer.callbacks.A.n": ["1", "—"],
    }


def test_smoothing_against_its_definition() -> None:
    values = [float(v % 7) for v in range(100)]
    for place, found in enumerate(smoothed(values)):
        weights = {i: math.exp(-(place - i) / 8) for i in range(max(0, place - 39), place + 1)}
        assert found == pytest.approx(sum(w * values[i] for i, w in weights.items()) / sum(weights.values()))


def test_shortest_names() -> None:
    paths = [Path("/x/a/run"), Path("/x/b/run"), Path("/x/c"), Path("/x/c")]
    assert list(names_of(paths).values()) == ["a/run", "b/run", "c"]
