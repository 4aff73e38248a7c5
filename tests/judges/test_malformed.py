"""Replies that are no verdict, from a real server: none of them counts as win, tie or loss."""

from __future__ import annotations

import math

import pytest

from tests.judges.conftest import Server, ask, judge

MALFORMED = [
    ("rahf", None, "empty", "empty reply"),
    ("rahf", None, "blank", "empty reply"),
    ("rahf", None, "null", "no content"),
    ("rahf", None, "both", "last line"),
    ("rahf", None, "quoted_letter", "last line"),
    ("rahf", None, "two_letters", "several verdicts"),
    ("rahf", None, "refusal", "last line"),
    ("rahf", None, "french", "last line"),
    ("rahf", None, "obeys", "last line"),
    ("rahf", None, "fullwidth", "last line"),
    ("rahf", None, "long", "too long"),
    ("rahf", None, "length", "ended by length"),
    ("rahf", None, "content_filter", "ended by content_filter"),
    ("rahf", None, "tool_calls", "ended by tool_calls"),
    ("rahf", None, "other_model", "another model"),
    ("rahf", None, "choices", "chat completion"),
    ("rahf", None, "html200", "chat completion"),
    ("rahf", None, "too_long", "refused by the server"),
    ("mt_bench", None, "two", "several verdicts"),
    ("mt_bench", None, "quoted", "not on the last line"),
    ("rahf", "json", "cut_json", "JSON"),
    ("rahf", "json", "two_json", "JSON"),
    ("rahf", "json", "twice_json", "JSON"),
    ("rahf", "json", "other_json", "winner"),
    ("pro", None, "over_ten", "two scores"),
    ("pro", None, "words", "two scores"),
    ("pro", None, "eleven", "two scores"),
    ("pro", None, "negative", "two scores"),
    ("pro", None, "nan", "two scores"),
    ("pro", None, "one_score", "two scores"),
    ("alpaca_eval", None, "first", "Python list"),
    ("alpaca_eval_2", None, "first", "m or M"),
]


@pytest.mark.parametrize(("template", "form", "case", "reason"), MALFORMED, ids=[m[2] for m in MALFORMED])
def test_malformed_replies_are_invalid(server: Server, template: str, form: str, case: str, reason: str) -> None:
    """Neither win, tie nor loss; asked again once; kept raw."""
    one = judge(server, template, form, repeats=1)
    (found,) = ask(one, f"CASE={case}")
    assert math.isnan(found.probability)
    assert math.isnan(found.shown_first)
    assert math.isnan(found.shown_second)
    (told,) = one.report()["invalid_replies"].items()
    assert reason in told[0]
    assert told[1] == 2
    assert len(server.requests()) == 4  # both orders, each twice
