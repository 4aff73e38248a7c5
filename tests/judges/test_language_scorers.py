"""Judges as scorers: ratings, rubrics, p(Yes), asked once, invalid replies counted and never a score."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.errors import ConfigError
from align.judges.endpoint import Endpoint
from align.judges.judge_prompts import JudgePrompt
from align.judges.language_scorer import LanguageModelScorer, YesProbability
from align.judges.local_model import LocalModel
from align.judges.rubric import RubricScorer
from align.models.backbone import Backbone
from align.records import Message
from tests.cli.things import TEMPLATE
from tests.judges.answering import answering
from tests.tiny import save_tiny

PROMPTS = [[Message("user", "Which?")], [Message("user", "Why?")]]
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
CRITERIA = [
    {"name": "accuracy", "description": "Facts are right.", "weight": 3},
    {"name": "tone", "description": "It is friendly."},
]


def endpoint(url: str, **options: Any) -> Endpoint:
    return Endpoint(url, "judge-1", api_key_env=None, **options)


def text(body: dict[str, Any]) -> str:
    return "\n".join(m["content"] for m in body["messages"])


def points(body: dict[str, Any]) -> str:
    if "mute" in text(body):
        return "I cannot say."
    return f"<think>\nScore: 0\n</think>\nFine.\nScore: {4 if 'good' in text(body) else 1}"


def test_ratings_are_scores_and_asked_once() -> None:
    with answering(points) as server:
        one = LanguageModelScorer(endpoint(server.url), repeats=1)
        found = one.score([*PROMPTS, PROMPTS[0], PROMPTS[0]], ["good", "poor", "mute", "good"])
        assert found[:, 0].tolist()[:2] == [4, 1]
        assert math.isnan(found[2, 0])
        assert found[3, 0] == 4
        assert one.report()["invalid_replies"] == {"last line is not a score from 0 to 5": 1}
        assert server.replied == 4  # three questions, the invalid one twice
        again = LanguageModelScorer(endpoint(server.url), repeats=1)
        assert again.score(PROMPTS, ["good", "poor"]).tolist() == [[4], [1]]
        assert server.replied == 4
        assert again.identity == one.identity
        assert LanguageModelScorer(endpoint(server.url, temperature=1.0), repeats=1).identity != one.identity


def test_a_prompt_of_pairs_rates_nothing() -> None:
    with pytest.raises(ConfigError, match=r"\(letter\) compare two responses"):
        LanguageModelScorer(endpoint("http://127.0.0.1:9/v1"), JudgePrompt("rahf"))


def rubric_reply(body: dict[str, Any]) -> str:
    if "half" in text(body):
        return '{"accuracy": 8}'
    if "eleven" in text(body):
        return '{"accuracy": 11, "tone": 2}'
    return '<think>{"accuracy": 1, "tone": 1}</think>Well.\n```json\n{"accuracy": 8, "tone": 2, "note": "x"}\n```'


def test_rubric_is_the_weighted_mean(tmp_path: Path) -> None:
    """(3 * 8 + 1 * 2) / 4 = 6.5."""
    (tmp_path / "rubric.yaml").write_text(json.dumps(CRITERIA))
    with answering(rubric_reply) as server:
        one = RubricScorer(endpoint(server.url), "rubric.yaml", repeats=0)
        assert one.attributes == ("rubric", "accuracy", "tone")
        found = one.score([PROMPTS[0]] * 3, ["whole", "half", "eleven"])
        assert found[0].tolist() == [6.5, 8, 2]
        assert found[1:].isnan().all()
        assert one.report()["invalid_replies"] == {
            "no JSON object with accuracy, tone": 1,
            "accuracy is not a number from 1 to 10": 1,
        }
        assert "- tone: It is friendly." in text(server.bodies[0])
        assert '{"accuracy": …, "tone": …}' in text(server.bodies[0])
        CRITERIA_2 = [{**CRITERIA[0], "weight": 1}, CRITERIA[1]]
        (tmp_path / "other.yaml").write_text(json.dumps(CRITERIA_2))
        other = RubricScorer(endpoint(server.url), "other.yaml", repeats=0)
        assert other.identity != one.identity
        assert other.score(PROMPTS[:1], ["whole"]).tolist() == [[5, 8, 2]]  # (8 + 2) / 2, of the reply that is kept
        assert server.replied == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "expected a list of criteria"),
        ("[{name: a}]", "criterion 0: name and description"),
        ("[{name: a, description: b, weight: -1}]", "weight must be a positive number, got -1"),
        ("[{name: a, description: b, wieght: 1}]", "expected name, description and weight"),
        ("[{name: a, description: b}, {name: a, description: c}]", "'a' stands twice"),
    ],
)
def test_rubrics_that_are_refused(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "rubric.yaml").write_text(content)
    with pytest.raises(ConfigError, match=says):
        RubricScorer(endpoint("http://127.0.0.1:9/v1"), "rubric.yaml")


def first_token(body: dict[str, Any]) -> dict[str, Any]:
    top = [{"token": "Yes", "logprob": math.log(0.6)}, {"token": "No", "logprob": math.log(0.2)}]
    content = [{**top[0], "top_logprobs": top}]
    return {"message": {"content": "Yes"}, "finish_reason": "length", "logprobs": {"content": content}}


@torch.no_grad()
def plain_chance(folder: Path, question: str) -> float:
    """Return the chance of the bytes of Yes beside those of No after a question, by a plain forward pass."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).double(), AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=True
    )["input_ids"]

    def chance(word: str) -> float:
        said = tokenizer(word, add_special_tokens=False)["input_ids"]
        logprobs = model(input_ids=torch.tensor([asked + said])).logits[0].log_softmax(-1)
        return math.exp(sum(logprobs[len(asked) - 1 + n, token].item() for n, token in enumerate(said)))

    return chance("Yes") / (chance("Yes") + chance("No"))


def test_a_long_question_is_weighed_whole(tmp_path: Path) -> None:
    """Of two prompts of over 1024 tokens that differ in their first words each has its own chance: nothing is cut.

    The template takes no system turn, so that the note on fences is a part of the question.
    """
    folder = save_tiny(tmp_path / "judge", template=f"{NO_SYSTEM}{TEMPLATE}", max_position_embeddings=4096)
    (tmp_path / "ask.jinja").write_text("{{ query }} {{ response_a }}?")
    prompts = [[Message("user", f"{first} {'word ' * 220}")] for first in ("Why", "How")]
    prompt = JudgePrompt(str(tmp_path / "ask.jinja"), "yes_no")
    one = YesProbability(LocalModel(Backbone(str(folder), dtype="float64")), prompt)
    found = one.score(prompts, ["a", "a"])[:, 0].tolist()
    asked = [prompt.question(p[0].content, "a", "", one.judge.settings).messages for p in prompts]
    expected = [plain_chance(folder, "\n\n".join(m.content for m in messages)) for messages in asked]
    assert found == pytest.approx(expected, rel=1e-9)
    assert found[0] != pytest.approx(found[1], rel=1e-7)


def test_chance_of_yes_at_an_endpoint() -> None:
    with answering(first_token) as server:
        found = YesProbability(endpoint(server.url)).score(PROMPTS[:1], ["good"])
        assert found.item() == pytest.approx(0.75)
        body = server.bodies[0]
        assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 20, 1)


def test_chance_of_yes_of_a_folder(model_folder: Path) -> None:
    """Against a plain forward pass: the product of the chances of the bytes of each word after the prompt."""
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(model_folder).double(),
        AutoTokenizer.from_pretrained(model_folder),
    )
    one = YesProbability(LocalModel(Backbone(str(model_folder), dtype="float64")))
    found = one.score(PROMPTS[:1], ["good"])
    (question,) = [one.judge.prompt.question("Which?", "good", "", one.judge.settings)]
    _, _, encoder = one.judge.responder.loaded  # type: ignore[attr-defined]
    prompt = encoder.prompt_ids(question.messages)
    whole = encoder.template.prompt(question.messages)

    def chance(word: str) -> float:
        rendered = encoder.template.render(question.messages, word)
        assert rendered.prompt == whole
        ids = tokenizer(rendered.response, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(-1)
        return math.exp(sum(logits[len(prompt) - 1 + n, token].item() for n, token in enumerate(ids)))

    yes, no = chance("Yes"), chance("No")
    assert found.item() == pytest.approx(yes / (yes + no), rel=1e-6)


def test_rank_by_a_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"prompt": "Which?", "chosen": "poor", "rejected": "good"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    words = ["data", "rank", "--data", "pairs.jsonl", "--out", "out.jsonl"]
    with answering(points) as server:
        words += ["--scorer", "LanguageModelScorer", "--scorer.responder", "Endpoint", "--scorer.responder.model"]
        words += ["judge-1", "--scorer.responder.base_url", server.url, "--scorer.responder.api_key_env", "null"]
        assert main(words) == 0, capsys.readouterr().err
    told = json.loads((tmp_path / "out.jsonl").read_text())
    assert (told["completions"], told["scores"], told["ranks"]) == (["good", "poor"], [4, 1], [1, 0])
    assert '"questions asked": 2' in capsys.readouterr().out
    assert main(words[:6]) == 2
    assert "one of the two, got neither" in capsys.readouterr().err


def test_rank_tells_why_nothing_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": "Which?", "chosen": "poor", "rejected": "good"}))
    words = ["data", "rank", "--data", "pairs.jsonl", "--out", "out.jsonl", "--scorer", "LanguageModelScorer"]
    with answering(lambda _: "no idea") as server:
        words += ["--scorer.responder", "Endpoint", "--scorer.responder.model", "judge-1"]
        words += ["--scorer.responder.base_url", server.url, "--scorer.responder.api_key_env", "null"]
        assert main(words) == 2
    told = capsys.readouterr()
    assert "left out: 1 response without a score" in told.out
    assert '"invalid_replies"' in told.out
    assert "no list of at least two responses" in told.err
