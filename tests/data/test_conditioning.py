"""Scores written into prompts."""

from __future__ import annotations

import math

import pytest

from align.data.conditioning import ScoreConditioned
from align.errors import ConfigError
from align.records import Example, Message

EXAMPLE = Example(
    "e",
    (Message("user", "Hi {scores}"),),
    ("a", "b"),
    attributes=("help", "tone"),
    scores=((3.0, math.nan), (1.25, 0.0)),
)


def test_every_row_names_its_known_scores() -> None:
    rows = list(ScoreConditioned().groups(EXAMPLE))
    texts = [row.messages[-1].content for row in rows]
    assert texts == ["Hi {scores}\n\n[help: 3.0]", "Hi {scores}\n\n[help: 1.2, tone: 0.0]"]
    assert [row.responses for row in rows] == [("a",), ("b",)]


def test_other_templates() -> None:
    (first, _) = ScoreConditioned(0, "({scores}) {prompt}").groups(EXAMPLE)
    assert first.messages[-1].content == "(help: 3) Hi {scores}"
    with pytest.raises(ConfigError, match=r"view.template must hold {prompt} and {scores}, got '{prompt}'"):
        ScoreConditioned(template="{prompt}")
