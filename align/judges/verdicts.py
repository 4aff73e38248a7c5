"""From a judge's reply to a verdict: strict, so that a reply that is not in the form asked for is invalid.

Parsers that take the first or the last match of a pattern can be led by a response that the reply quotes. Here the
verdict stands alone, or on the last line alone, and is given once. Thoughts before it (`<think>`) are not read.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from align.judges.chat_completion import ChatCompletion
from align.judges.final_answer import final_answer, find_object

VerdictForm = Literal["letter", "brackets", "scores", "ranking", "identifier", "json", "rating", "points", "yes_no"]
MAX_REPLY = 64_000
"""Characters; a longer reply is invalid, thoughts left aside."""
CHOICES = ("Yes", "No")
"""What a reply of the form `yes_no` may be."""
IDENTIFIERS = ("m", "M")
"""What a reply of the form `identifier` may be: the first response, and the second."""
_LETTER = re.compile(r"(?:[*_]{0,2}\w[\w ,]{0,60}:[*_]{0,2} *)?[\"'*(]{0,2}([AB])[\"'*)]{0,2}\.?")
"""A line that states a verdict, behind a head or none."""
_POINTS = re.compile(
    r"(?:#+ )?[*_]*(?:total )?score[*_]*: *[*_]* *<?([0-5])(?:\.0)?(?: ?/ ?5| out of 5)?(?: points?)?>?[*_]*\.?",
    re.IGNORECASE | re.ASCII,
)
"""A line that states points, as `Score: 4`; Markdown's marks, the prompt's angles and a unit make no other number."""


class Verdict(NamedTuple):
    """A parsed reply."""

    first: float
    """How well the response shown first did: 1 better, 0.5 a tie, 0 worse, or the rating itself; NaN is invalid."""
    reason: str = ""
    """Why a reply is invalid."""
    scores: tuple[float, ...] = ()
    """Of the first and the second response, where the reply gives them."""
    text: str = ""
    """The reply itself, where the judge keeps it."""


def invalid(reason: str) -> Verdict:
    """Return the verdict of a reply that cannot be used."""
    return Verdict(math.nan, reason)


def parse(reply: ChatCompletion, form: VerdictForm) -> Verdict:
    """Return the verdict of a reply in one of the forms, or an invalid one with the reason."""
    if form == "yes_no":
        return _yes_no(reply)
    if form == "identifier" and reply.finish_reason == "length" and reply.text.strip() in IDENTIFIERS:
        reply = reply._replace(finish_reason="stop")  # AlpacaEval asks for one token, which is the whole reply
    answer = answered(reply)
    return answer if isinstance(answer, Verdict) else _PARSERS[form](answer)


def answered(reply: ChatCompletion) -> ChatCompletion | Verdict:
    """Return a reply without its thoughts, or an invalid verdict where it is cut off, empty or too long."""
    if reply.finish_reason not in (None, "stop"):
        return invalid(f"ended by {reply.finish_reason}")
    if not reply.text.strip():
        return invalid("empty reply")
    text, thought, fault = final_answer(reply.text)
    if fault or not text.strip() or len(text) > MAX_REPLY:
        return invalid(fault or ("reply too long" if text.strip() else "empty reply"))
    return reply._replace(text=text, logprobs={} if thought else reply.logprobs)  # they are of the first token


def _letter(reply: ChatCompletion) -> Verdict:
    """RAHF: a comparison, then a line that names only A or B; the line may be headed, as in `More helpful: A`."""
    found = _LETTER.fullmatch(_last_line(reply.text))
    if not found:
        return invalid("last line is not A or B")
    others = any(_LETTER.fullmatch(line) for line in _lines(reply.text)[:-1])
    return invalid("several verdicts") if others else Verdict(float(found.group(1) == "A"))


def _brackets(reply: ChatCompletion) -> Verdict:
    """MT-bench, pairs: one of `[[A]]`, `[[B]]` and, for a tie, `[[C]]`, on the last line and nowhere else."""
    marks = re.findall(r"\[\[([ABC])\]\]", reply.text)
    if not marks:
        return invalid("no verdict in brackets")
    if len(marks) > 1:
        return invalid("several verdicts")
    if f"[[{marks[0]}]]" not in _last_line(reply.text):
        return invalid("verdict is not on the last line")
    return Verdict({"A": 1.0, "B": 0.0, "C": 0.5}[marks[0]])


def _rating(reply: ChatCompletion) -> Verdict:
    """MT-bench, single answers: `[[7]]` from 1 to 10, on the last line and nowhere else."""
    marks = re.findall(r"\[\[([^\[\]]*)\]\]", reply.text)
    if len(marks) != 1:
        return invalid("several ratings" if marks else "no rating in brackets")
    if f"[[{marks[0]}]]" not in _last_line(reply.text):
        return invalid("rating is not on the last line")
    value = _number(marks[0])
    return invalid(f"not a rating from 1 to 10: {marks[0][:20]}") if math.isnan(value) else Verdict(value)


def _points(reply: ChatCompletion) -> Verdict:
    """Self-rewarding: a last line `Score: 4`, from 0 to 5; another line that states a score makes several."""
    lines = [_POINTS.fullmatch(line) for line in _lines(reply.text)]
    if lines[-1] is None:
        return invalid("last line is not a score from 0 to 5")
    return invalid("several scores") if sum(map(bool, lines)) > 1 else Verdict(float(lines[-1][1]))


def _yes_no(reply: ChatCompletion) -> Verdict:
    """P(Yes) / (P(Yes) + P(No)), of the first token, whatever follows it; case and spaces around it count alike."""
    yes, no = (
        sum(math.exp(value) for token, value in reply.logprobs.items() if token.strip().lower() == choice.lower())
        for choice in CHOICES
    )
    if not reply.logprobs:
        return invalid("no log-probabilities of the first token")
    return Verdict(yes / (yes + no)) if yes + no > 0 else invalid("neither Yes nor No among the first tokens")


def _scores(reply: ChatCompletion) -> Verdict:
    """PRO: two scores from 1 to 10 alone on the last line; equal scores are a tie."""
    bold = re.fullmatch(r"([*_]{1,3})([^*_]+)\1", line := _last_line(reply.text))
    values = [_number(part) for part in (bold[2] if bold else line).split(" ") if part]
    if len(values) != 2 or any(map(math.isnan, values)):
        return invalid("last line is not two scores from 1 to 10")
    return Verdict(_order(*values), scores=tuple(values))


def _ranking(reply: ChatCompletion) -> Verdict:
    """AlpacaEval 1: the whole reply is a Python list of two dicts with `model` and `rank`."""
    try:
        value = ast.literal_eval(reply.text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return invalid("not a Python list")
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(v, dict) for v in value)):
        return invalid("not a list of two dicts")
    if any(set(v) != {"model", "rank"} or type(v["rank"]) is not int or v["rank"] not in (1, 2) for v in value):
        return invalid("not a ranking with ranks 1 and 2")
    ranks = {str(v["model"]): v["rank"] for v in value}
    if set(ranks) != {"model_1", "model_2"} or set(ranks.values()) == {2}:
        return invalid("not a ranking of model_1 and model_2")
    return Verdict(_order(ranks["model_2"], ranks["model_1"]))


def _identifier(reply: ChatCompletion) -> Verdict:
    """AlpacaEval 2: the reply is `m` or `M`, weighted by the log-probabilities of both where they are given."""
    text = reply.text.strip()
    if text not in IDENTIFIERS:
        return invalid("reply is not m or M")
    chances = [math.exp(reply.logprobs.get(name, -math.inf)) for name in IDENTIFIERS]
    if all(chances):
        return Verdict(chances[0] / sum(chances))
    return Verdict(float(text == "m"))


def _json(reply: ChatCompletion) -> Verdict:
    """For templates of one's own: `{"winner": "A"}`, "B" or "tie", other keys and prose around it allowed."""
    value = find_object(reply.text, ("winner",))
    if isinstance(value, str):
        return invalid(value)
    winner = value["winner"]
    if not isinstance(winner, str) or winner not in ("A", "B", "tie"):
        return invalid("winner is not A, B or tie")
    return Verdict({"A": 1.0, "B": 0.0, "tie": 0.5}[winner])


def _number(text: str) -> float:
    """Return a plain number from 1 to 10, NaN for anything else."""
    value = float(text) if re.fullmatch(r"\d{1,2}(?:\.\d{1,3})?", text, re.ASCII) else math.nan
    return value if 1 <= value <= 10 else math.nan


def _order(first: float, second: float) -> float:
    return 0.5 if first == second else float(first > second)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines() if line.strip()]


def _last_line(text: str) -> str:
    return _lines(text)[-1]


_PARSERS: dict[VerdictForm, Callable[[ChatCompletion], Verdict]] = {
    "letter": _letter,
    "brackets": _brackets,
    "scores": _scores,
    "ranking": _ranking,
    "identifier": _identifier,
    "json": _json,
    "rating": _rating,
    "points": _points,
    "yes_no": _yes_no,
}
