"""Rewards that a rule decides: functions for `FunctionRewards`, such as `align.rewards.verifiable:math_answer`.

What a function compares with is a column of the data (`data.keep_columns`) or one of its `arguments`, by the same name.
Each returns 1 or 0 where nothing else is said.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

GSM8K = "####"
"""What stands before the answer in GSM8K (Cobbe et al. 2021, arXiv:2110.14168)."""
FENCED = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n\s*```\s*\Z", re.DOTALL)


def math_answer(completion: str, answer: str | float) -> float:
    r"""Return whether a response has the right result: equal as mathematics (`math-verify`, extra `verify`).

    Of a response counts what follows its thought (`</think>`) and the last `####`; there its last `\boxed{}`, or all
    of them together, else an answer that is announced, else the last number or formula, as `math-verify` has it. Where
    the answer is no number but `(1, 2)`, `x + 1` or `B`, all of a response that is nothing else is read as a formula
    too. What takes it more than 5 s to evaluate is wrong. Raises ValueError for an answer that is no mathematics: its
    row would never be rewarded.
    """
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise ImportError("math_answer needs math-verify: pip install 'align-lm[verify]'") from error
    gold = parse(_formula(str(answer)))
    if not gold or (isinstance(answer, float) and math.isnan(answer)):
        raise ValueError(f"the answer {str(answer)[:60]!r} cannot be read as mathematics: take exact_match for texts")
    said = completion.rpartition("</think>")[2].rpartition(GSM8K)[2]
    last = said[max(said.rfind(r"\boxed"), 0) :]
    whole = () if getattr(gold[0], "is_number", False) else (_formula(last),)  # `3 4` is a product
    return float(any(verify(gold, parse(text)) for text in dict.fromkeys((last, said, *whole))))


def _formula(answer: str) -> str:
    """Return an answer so that all of it is read: as a formula, unless it marks one itself, or is a number in prose."""
    text = answer.rpartition(GSM8K)[2].strip()
    marked = any(mark in text for mark in ("$", r"\boxed", r"\[", r"\("))
    return text if marked or ("\\" not in text and re.search("[A-Za-z]{4}", text)) else f"${text}$"


def exact_match(completion: str, answer: str | float, pattern: str | None = None, *, case: bool = False) -> float:
    """Return whether a response is the answer, apart from white space and, unless `case`, from capitals.

    With `pattern` the last place that it matches is compared, its first group where it has one; no match is no answer.
    """
    if pattern is not None:
        found = [match[1] if match.re.groups else match[0] for match in re.finditer(pattern, completion, re.DOTALL)]
        if not found:
            return 0.0
        completion = found[-1] or ""
    said, meant = (" ".join(str(text).split()) for text in (completion, answer))
    return float(said == meant if case else said.casefold() == meant.casefold())


def matches(completion: str, pattern: str) -> float:
    """Return whether a regular expression is found in a response; `^` and `$` are its ends, `.` any character."""
    return float(re.search(pattern, completion, re.DOTALL) is not None)


def contains(
    completion: str, must: Sequence[str] | None = None, must_not: Sequence[str] | None = None, *, case: bool = False
) -> float:
    """Return the share of the texts in `must` that a response contains, and 0 where it has one of `must_not`."""
    fold = (lambda text: text) if case else str.casefold
    wanted, unwanted, said = list(must or ()), list(must_not or ()), fold(completion)
    if isinstance(must, str) or isinstance(must_not, str) or not (wanted or unwanted):
        raise ValueError(f"must and must_not are lists of texts, one of them not empty, got {must!r} and {must_not!r}")
    if any(fold(text) in said for text in unwanted):
        return 0.0
    return sum(fold(text) in said for text in wanted) / len(wanted) if wanted else 1.0


def length_within(
    completion: str,
    at_least: int | None = None,
    at_most: int | None = None,
    unit: Literal["words", "characters", "sentences", "lines"] = "words",
) -> float:
    """Return whether a response has a length within bounds, both included."""
    if at_least is None and at_most is None:
        raise ValueError("length_within needs at_least or at_most")
    size = length(completion, unit)
    return float((at_least is None or size >= at_least) and (at_most is None or size <= at_most))


def length(completion: str, unit: Literal["words", "characters", "sentences", "lines"] = "words") -> float:
    """Return how long a response is; a sentence ends with `.`, `!` or `?` before a space or the end."""
    counts = {
        "words": lambda: len(completion.split()),
        "characters": lambda: len(completion),
        "sentences": lambda: len([part for part in re.split(r"(?<=[.!?])\s+", completion.strip()) if part]),
        "lines": lambda: len([line for line in completion.splitlines() if line.strip()]),
    }
    if unit not in counts:
        raise ValueError(f"unit {unit!r}: expected {', '.join(counts)}")
    return float(counts[unit]())


def parses_as_json(completion: str, keys: Sequence[str] | None = None) -> float:
    """Return whether a response is JSON, alone or in one fence; with `keys`, an object that has all of them."""
    fenced = FENCED.match(completion)
    try:
        found = json.loads(fenced[1] if fenced else completion)
    except (ValueError, RecursionError):
        return 0.0
    return float(not keys or (isinstance(found, dict) and all(key in found for key in keys)))


def sentiment(completion: str) -> float:
    """Return how positive a response is, from -1 to 1: VADER's compound (Hutto and Gilbert 2014; extra `verify`)."""
    return float(_vader().polarity_scores(completion)["compound"])


@cache
def _vader() -> Any:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise ImportError("sentiment needs vaderSentiment: pip install 'align-lm[verify]'") from error
    return SentimentIntensityAnalyzer()
