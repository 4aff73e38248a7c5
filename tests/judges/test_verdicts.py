"""What counts as a verdict: well-formed replies of each form. Malformed ones are in test_endpoint."""

from __future__ import annotations

import math

import pytest

from align.judges.chat_completion import ChatCompletion, read_body, read_usage
from align.judges.verdicts import VerdictForm, parse
from align.sampling.server_faults import read_error

RANKS = "[{'model': 'model_%d', 'rank': 1}, {'model': 'model_%d', 'rank': 2}]"


@pytest.mark.parametrize(
    ("form", "text", "first"),
    [
        ("letter", "Comparison: A is terse, B rambles.\nA", 1),
        ("letter", 'Comparison: x.\nMore helpful: "B"', 0),
        ("letter", 'Comparison: x.\nMore helpful, truthful, and harmless: "A"', 1),
        ("letter", "Comparison: x.\nMore helpful, truthful, and harmless: B", 0),
        ("letter", "Comparison: x.\n**More helpful, truthful, and harmless:** B", 0),
        ("letter", "B.", 0),
        ("letter", "**A**", 1),
        ("brackets", "Because.\n\nMy final verdict is: [[B]].", 0),
        ("brackets", "[[C]]", 0.5),
        ("scores", "Fine.\n8 7", 1),
        ("scores", "Fine.\n7.5 7.5\n", 0.5),
        ("scores", "1 10", 0),
        ("ranking", RANKS % (1, 2), 1),
        ("ranking", RANKS % (2, 1), 0),
        ("ranking", "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 1}]", 0.5),
        ("identifier", " M\n", 0),
        ("json", '{"why": "x", "winner": "tie"}', 0.5),
        ("rating", "Good. Rating: [[7.5]]", 7.5),
        ("points", "Relevant.\n\nScore: 4", 4),
        ("points", "Poor.\n**Score: 0/5**", 0),
        *(("points", f"Fine.\n{line}", 4) for line in ("**Score:** 4", "### Score: 4", "Score: <4>", "Score: 4.0")),
        *(("points", f"Fine.\n{line}", 4) for line in ("Score: 4 points", "Score: 4 out of 5", "**Total score**: 4.")),
        ("scores", "Fine.\n**8 7**", 1),
        ("letter", "<think>\nA says: the verdict is\nB\n</think>\n\nComparison: x.\nA", 1),
        ("brackets", "<think>[[A]] or [[B]]? One quotes </think> [[A]].</think>My verdict: [[B]]", 0),
        ("brackets", "[[A]] I thought at first.\n</think>\n[[C]]", 0.5),  # a template that opens the thoughts itself
        ("brackets", "<|channel|>analysis<|message|>[[A]]<|end|><|start|>assistant<|channel|>final<|message|>[[B]]", 0),
        ("scores", "[THINK]1 10[/THINK]Fine.\n8 7", 1),
        ("ranking", "```python\n" + RANKS % (2, 1) + "\n```", 0),
        ("json", 'Sure:\n```json\n{"winner": "A"}\n```', 1),
        ("json", '```json\n{"why": {"A": 1},\n "winner": "B"}\n```\nI hope this helps.', 0),
        ("json", '{"winner": "A"}\n\nA names a source, B {none}.', 1),
        ("json", 'My verdict is {"winner": "tie"}.', 0.5),
        ("json", '<think>{"winner": "A"}</think>{"winner": "B"}', 0),
        ("json", 'A ends with {"winner": "A"}, a trick.\n{"winner": "B"}', 0),
    ],
)
def test_forms(form: VerdictForm, text: str, first: float) -> None:
    assert parse(ChatCompletion(text), form).first == first


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("letter", "A or B"),
        ("letter", "I choose A because B is worse"),
        ("letter", "C"),
        ("letter", 'More helpful, truthful, and harmless: "A"\nB'),
        ("letter", "**A**\nMore helpful: B"),
        ("brackets", "[[A]]\nThat is my verdict."),
        ("brackets", "[[D]]"),
        ("brackets", "[[A]][[A]]"),
        ("ranking", "[{'model': 'model_1', 'rank': 1}, {'model': 'model_1', 'rank': 2}]"),
        ("ranking", "[{'model': 'model_1', 'rank': 2}, {'model': 'model_2', 'rank': 2}]"),
        ("ranking", "[{'model': 'model_1', 'rank': True}, {'model': 'model_2', 'rank': 2}]"),
        ("ranking", "__import__('os').system('true')"),
        ("ranking", "[" * 5000),
        ("json", '["A"]'),
        ("json", '{"winner": ["A"]}'),
        ("json", "[" * 50_000),
        ("scores", "٨ 7"),
        ("scores", "0 5"),
        ("rating", "[[0]]"),
        ("rating", "[[eight]]"),
        ("rating", "[[8]] or [[9]]"),
        ("identifier", "m or M"),
        ("points", "Score: 3\nOr rather\nScore: 4"),
        ("points", "Score: 6"),
        ("points", "Score: 4.5"),
        ("points", "Score: 4 out of 10"),
        ("points", "Score: 4/10"),
        ("scores", "**8** **7** 6"),
        ("points", "Score: 4 if one is kind"),
        ("letter", "<think>A is better.\nA"),
        ("letter", "Well.\n<think>\nA"),
        ("brackets", "<think>[[A]]</think>"),
        ("brackets", "<think>[[A]]</think>I cannot say."),
        ("brackets", "```\n\n```"),
        ("json", 'Response A says {"winner": "A"}, which I ignore.\nNeither convinces me.'),
        ("json", '{"winner": "B"}\nA had ended with {"winner": "A"}'),
        ("json", '```json\n{"winner": "A"}\n```\n```json\n{"winner": "B"}\n```'),
        ("json", '{"note": {"winner": "A"}'),
        ("json", '{"verdict": {"winner": "A"}}'),
        ("json", '{"a":' * 20_000),
        ("json", '{"a": 1} ' * 20_000 + '{"winner": "A"}'),
        ("yes_no", "Yes"),
    ],
)
def test_near_misses(form: VerdictForm, text: str) -> None:
    assert math.isnan(parse(ChatCompletion(text), form).first)


def test_weights_of_alpaca_eval_2() -> None:
    # e^-0.5 / (e^-0.5 + e^-1.5) = 1 / (1 + e^-1)
    reply = ChatCompletion("m", logprobs={"m": -0.5, "M": -1.5, "x": -9})
    assert parse(reply, "identifier").first == pytest.approx(1 / (1 + math.exp(-1)))
    assert parse(ChatCompletion("m", logprobs={"m": -0.1}), "identifier").first == 1
    assert parse(reply._replace(finish_reason="length"), "identifier").first == parse(reply, "identifier").first
    assert parse(ChatCompletion("Model m", "length"), "identifier").reason == "ended by length"


def test_thoughts_take_the_first_token_and_its_weights() -> None:
    """A reply that begins with thoughts has log-probabilities of `<think>`, which say nothing of m and M."""
    reply = ChatCompletion("<think>m or M?</think>\nM", logprobs={"m": -0.5, "M": -1.5, "<think>": -0.1})
    assert parse(reply, "identifier").first == 0


def test_chance_of_yes() -> None:
    # (.5 + .1) / (.5 + .1 + .2) = .75; a reply cut after its first token is one
    told = {"Yes": math.log(0.5), " yes": math.log(0.1), "No": math.log(0.2), "Maybe": math.log(0.2)}
    assert parse(ChatCompletion("Yes", "length", told), "yes_no").first == pytest.approx(0.75)
    assert (
        parse(ChatCompletion("Well", "length", {"Well": -0.1}), "yes_no").reason
        == "neither Yes nor No among the first tokens"
    )
    assert parse(ChatCompletion("Yes"), "yes_no").reason == "no log-probabilities of the first token"


def test_bodies() -> None:
    assert read_body("{}") == "body is not a chat completion with one choice"
    assert read_body("[" * 100_000) == "body is not a chat completion with one choice"
    assert read_body('{"choices": [{"message": {"content": "A", "refusal": "no"}}]}') == "refused by the judge"
    assert read_body('{"choices": [{"message": {"content": "A"}}], "model": "m"}') == ChatCompletion("A", None, {}, "m")
    assert read_usage('{"usage": {"prompt_tokens": 5, "completion_tokens": 2}}') == (5, 2)
    assert read_usage('{"usage": {"prompt_tokens": -5, "completion_tokens": 2}}') is None
    assert read_usage('{"usage": null}') is None
    assert read_error('{"error": "down"}') == {"message": "down"}
    assert read_error('{"choices": [1], "error": null}') is None
