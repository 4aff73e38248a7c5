"""Rows in the layouts of public datasets and of other programs, made up here: each is read by the meaning it has there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.records import Example, Message
from tests.data.rows import written

USER = {"role": "user", "content": "Hi"}
GOOD, BAD = ({"role": "assistant", "content": c} for c in ("Good.", "Bad."))
HUMAN, GPT_GOOD, GPT_BAD = ({"from": f, "value": v} for f, v in (("human", "Hi"), ("gpt", "Good."), ("gpt", "Bad.")))
ASKED = (Message("user", "Hi"),)
TOLD = (Message("system", "S."), *ASKED)
HELLO = (Message("user", "Hello"), Message("assistant", "Yes?"))
WITH_INPUT = (Message("user", "Hi\n\nthere"),)


def read(tmp_path: Path, *rows: dict[str, Any], report: Report | None = None, **options: Any) -> list[Example]:
    path = written(tmp_path, *rows)
    return PreferenceFile(str(path), **options).read("train", report or Report())


PAIRS: dict[str, tuple[dict[str, Any], tuple[Message, ...]]] = {
    "Intel Orca, axolotl chatml.intel": (
        {"system": "S.", "question": "Hi", "chosen": "Good.", "rejected": "Bad."},
        TOLD,
    ),
    "argilla Orca, axolotl chatml.icr": ({"system": "S.", "input": "Hi", "chosen": "Good.", "rejected": "Bad."}, TOLD),
    "axolotl chatml.argilla": (
        {"system": "S.", "instruction": "Hi", "chosen_response": "Good.", "rejected_response": "Bad."},
        TOLD,
    ),
    "axolotl chatml.prompt_pairs": ({"system": "S.", "prompt": "Hi", "chosen": "Good.", "rejected": "Bad."}, TOLD),
    "axolotl chatml.ultra": ({"system": "S.", "prompt": "Hi", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, TOLD),
    "axolotl chat_template.default": ({"messages": [USER], "chosen": GOOD, "rejected": BAD}, ASKED),
    "axolotl argilla_chat": ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, ASKED),
    "LLaMA-Factory, alpaca": (
        {"instruction": "Hi", "input": "there", "chosen": "Good.", "rejected": "Bad."},
        WITH_INPUT,
    ),
    "LLaMA-Factory, sharegpt": (
        {"conversations": [HUMAN], "chosen": GPT_GOOD, "rejected": GPT_BAD, "system": "S."},
        TOLD,
    ),
    "LLaMA-Factory, first rankings": ({"instruction": "Hi", "input": "there", "output": ["Good.", "Bad."]}, WITH_INPUT),
    "system in the prompt only": (
        {"prompt": [{"role": "system", "content": "S."}, USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        TOLD,
    ),
    "TRL, turns after the prompt": ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, ASKED),
    "OpenAI preferences": (
        {"input": {"messages": [USER], "tools": []}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
        ASKED,
    ),
    "PKU-SafeRLHF": (
        {
            **{"prompt": "Hi", "response_0": "Bad.", "response_1": "Good.", "better_response_id": 1},
            **{"safer_response_id": 0, "is_response_0_safe": True, "is_response_1_safe": True},
        },
        ASKED,
    ),
    "SHP": (
        {
            **{"history": "Hi", "human_ref_A": "Bad.", "human_ref_B": "Good.", "labels": 0, "score_A": 2, "score_B": 9},
            **{"post_id": "x", "domain": "d", "upvote_ratio": 0.9, "score_ratio": 4.5},
        },
        ASKED,
    ),
    "Nectar": (
        {
            "prompt": "\n\nHuman: Hi\n\nAssistant: ",
            "answers": [{"answer": t, "model": "m", "rank": r} for t, r in (("Bad.", 2.0), ("Good.", 1.0))],
            **{"turns": 1, "num_responses": 2, "source": ["lmsys"], "good_natured": True},
        },
        ASKED,
    ),
    "stack-exchange-paired": (
        {"qid": 4, "question": "Hi", "date": "2010", "metadata": ["u"], "response_j": "Good.", "response_k": "Bad."},
        ASKED,
    ),
    "UltraInteract": (
        {
            **{"task": "Coding", "dataset": "d", "trajectory": [{"from": "user", "value": "Hi"}]},
            **{"chosen": "Good.", "rejected": "Bad.", "id": "0_0", "parent_id": "0"},
        },
        ASKED,
    ),
    "WebGPT": (
        {
            **{"question": {"dataset": "eli5", "id": "1", "full_text": "Hi"}, "answer_0": "Bad.", "answer_1": "Good."},
            **{"score_0": -0.5, "score_1": 0.5, "tokens_0": {}, "quotes_0": {"title": ["t"], "extract": ["e"]}},
        },
        ASKED,
    ),
    "summarize-from-feedback, comparisons": (
        {
            "info": {"id": "t3", "post": "p", "title": "t", "subreddit": "r", "site": None, "article": None},
            "summaries": [{"text": t, "policy": "sup4", "note": ""} for t in (" Bad.", " Good.")],
            **{"choice": 1, "worker": "w", "batch": "b", "split": "train", "extra": {"confidence": None}},
        },
        (Message("user", "SUBREDDIT: r/r\nTITLE: t\nPOST: p\nTL;DR:"),),
    ),
    "RewardBench": (
        {
            **{"prompt": "Hi", "chosen": "Good.", "rejected": "Bad.", "chosen_model": "a", "rejected_model": "b"},
            **{"subset": "alpacaeval-easy", "id": 1},
        },
        ASKED,
    ),
    "RewardBench 2": (
        {
            **{"id": "0", "prompt": "Hi", "chosen": ["Good."], "rejected": ["Bad."], "num_correct": 1},
            **{"num_incorrect": 1, "total_completions": 2, "models": ["a", "b"], "subset": "Math"},
        },
        ASKED,
    ),
    "RAHF's release": (
        {
            **{
                "source": "evol",
                "prompt": "\n\nHuman: Hi\n\nAssistant: ",
                "chosen": [USER, GOOD],
                "chosen-rating": 5.0,
            },
            **{"chosen-model": "a", "rejected": [USER, BAD], "rejected-rating": 2.0, "rejected-model": "b"},
            **{"prompt_length": 9, "chosen_response": "Good. </s>", "rejected_respomse": "Bad. </s>"},
        },
        ASKED,
    ),
    "RLHFlow's UltraFeedback, after DPA": (
        {"chosen": [USER, GOOD], "rejected": [USER, BAD], "chosen_score": 8.5, "rejected_score": 7.0},
        ASKED,
    ),
    "HelpSteer2 preferences": (
        {"prompt": "Hi", "response_1": "Bad.", "response_2": "Good.", "preference_strength": 2, "split": "train"},
        ASKED,
    ),
    "HelpSteer3 preferences": (
        {"context": [USER], "response1": "Good.", "response2": "Bad.", "overall_preference": -1, "domain": "general"},
        ASKED,
    ),
    "scores as text": (
        {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad.", "score_chosen": "4.5", "score_rejected": "1"},
        ASKED,
    ),
    "a dialogue as text": (
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Good.", "rejected": "\n\nHuman: Hi\n\nAssistant: Bad."},
        ASKED,
    ),
}


@pytest.mark.parametrize("layout", PAIRS)
def test_pairs_of_every_layout(tmp_path: Path, layout: str) -> None:
    row, messages = PAIRS[layout]
    (example,) = read(tmp_path, row)
    assert example.messages == messages
    assert [example.responses[group[0]] for group in example.ranking] == ["Good.", "Bad."]
    assert not example.answers
    assert not example.contexts


SINGLES: dict[str, tuple[dict[str, Any], tuple[Message, ...], dict[str, float]]] = {
    "Alpaca": ({"instruction": "Hi", "input": "there", "output": "Good.", "text": "Below is"}, WITH_INPUT, {}),
    "Alpaca without input": ({"instruction": "Hi", "input": "", "output": "Good."}, ASKED, {}),
    "dolly": ({"instruction": "Hi", "context": "there", "response": "Good.", "category": "open_qa"}, WITH_INPUT, {}),
    "ShareGPT": ({"id": "x", "conversations": [HUMAN, GPT_GOOD], "system": "S."}, TOLD, {}),
    "pygmalion": ({"conversations": [{"role": "user", "value": "Hi"}, {"role": "bot", "value": "Good."}]}, ASKED, {}),
    "OpenAI": ({"messages": [{"role": "developer", "content": "S."}, USER, GOOD]}, TOLD, {}),
    "content parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, GOOD]},
        ASKED,
        {},
    ),
    "axolotl oasst": ({"INSTRUCTION": "Hi", "RESPONSE": "Good."}, ASKED, {}),
    "axolotl load_qa": ({"question": "Hi", "answer": "Good."}, ASKED, {}),
    "LLaMA-Factory KTO": ({"messages": [USER, GOOD], "label": False}, ASKED, {"desirable": 0.0}),
    "LLaMA-Factory kto_tag": (
        {"instruction": "Hi", "input": "there", "output": "Good.", "kto_tag": True},
        WITH_INPUT,
        {"desirable": 1.0},
    ),
    "axolotl KTO": (
        {"system": "S.", "question": "Hi", "completion": "Good.", "label": "false"},
        TOLD,
        {"desirable": 0.0},
    ),
    "a label as a number": ({"prompt": "Hi", "completion": "Good.", "label": 1}, ASKED, {"desirable": 1.0}),
    "beavertails": (
        {"prompt": "Hi", "response": "Good.", "category": {"hate": False}, "is_safe": True},
        ASKED,
        {"desirable": 1.0},
    ),
    "one score": ({"prompt": "Hi", "response": "Good.", "score": "0.25"}, ASKED, {"score": 0.25}),
    "HelpSteer": (
        {"prompt": "Hi", "response": "Good.", "helpfulness": 3, "verbosity": 1},
        ASKED,
        {"helpfulness": 3.0, "verbosity": 1.0},
    ),
    "summarize-from-feedback, axes": (
        {
            "info": {"id": "x", "post": None, "title": None, "subreddit": None, "site": "cnn", "article": "A."},
            "summary": {"text": " Good.", "policy": "ref", "note": "", "axes": {"overall": 7, "coverage": None}},
            "worker": "w",
        },
        (Message("user", "Article: A.\nTL;DR:"),),
        {"overall": 7.0, "coverage": math.nan},
    ),
    "SteerLM texts": (
        {
            "text": "<extra_id_0>System\nS.\n<extra_id_1>User\nHi\n<extra_id_1>Assistant\nGood.\n<extra_id_2>",
            "label": [-100, -100, -100, -100, 4, 4, 3, 2, 1],
        },
        TOLD,
        {
            **dict.fromkeys(("quality", "toxicity", "humor", "creativity"), math.nan),
            **{"helpfulness": 4.0, "correctness": 4.0, "coherence": 3.0, "complexity": 2.0, "verbosity": 1.0},
        },
    ),
    "SteerLM dialogues": (
        {
            **{"system": "S.", "mask": "User", "type": "VALUE_TO_TEXT"},
            "conversations": [
                {"from": "User", "value": "Hi", "label": None},
                {"from": "Assistant", "value": "Good.", "label": "quality:4,toxicity:0"},
            ],
        },
        TOLD,
        {"quality": 4.0, "toxicity": 0.0},
    ),
}


@pytest.mark.parametrize("layout", SINGLES)
def test_single_responses_of_every_layout(tmp_path: Path, layout: str) -> None:
    row, messages, scores = SINGLES[layout]
    (example,) = read(tmp_path, row)
    assert (example.messages, example.responses) == (messages, ("Good.",))
    found = dict(zip(example.attributes, example.scores[0] if example.scores else (), strict=True))
    assert repr(found) == repr(scores)  # NaN is not equal to itself


@pytest.mark.parametrize(
    ("prompt", "messages"),
    [
        ("Hi", ASKED),
        ([{"role": "system", "content": "S."}, USER], TOLD),
        ("Human: Hello\n\nAssistant: Yes?\n\nHuman: Hi", (*HELLO, *ASKED)),
    ],
)
def test_what_only_the_prompt_beside_a_dialogue_says_is_read(tmp_path: Path, prompt: Any, messages: Any) -> None:
    (example,) = read(tmp_path, {"prompt": prompt, "messages": [USER, GOOD]})
    assert (example.messages, example.responses) == (messages, ("Good.",))


def test_a_prompt_that_is_not_in_its_dialogue_is_dropped(tmp_path: Path) -> None:
    report = Report()
    right = {"prompt": "Hi", "messages": [USER, GOOD]}
    assert len(read(tmp_path, right, right | {"id": "b"}, right | {"id": "c", "prompt": "Bye"}, report=report)) == 2
    assert report.dropped == {"prompt is not in the dialogue": 1}


def test_scores_and_models_of_a_pair(tmp_path: Path) -> None:
    names = {"RAHF's release": ((5.0,), (2.0,)), "RLHFlow's UltraFeedback, after DPA": ((8.5,), (7.0,))}
    for layout, scores in names.items():
        (example,) = read(tmp_path, PAIRS[layout][0])
        assert example.scores == scores
    (example,) = read(tmp_path, PAIRS["RewardBench"][0])
    assert example.origins == ("a", "b")
    (example,) = read(tmp_path, PAIRS["PKU-SafeRLHF"][0])
    assert (example.attributes, example.scores) == (("better", "safer", "safe"), ((0.0, 1.0, 1.0), (1.0, 0.0, 1.0)))


def test_ties_and_empty_preferences(tmp_path: Path) -> None:
    webgpt, report = {**PAIRS["WebGPT"][0], "score_0": 0.0, "score_1": 0.0}, Report()
    safe = {**PAIRS["PKU-SafeRLHF"][0], "better_response_id": ""}
    tied, *rest = read(tmp_path, webgpt, webgpt, safe, report=report)
    assert (tied.ranking, len(rest)) == (((0, 1),), 1)
    assert report.dropped == {"'better_response_id' is empty: no preference": 1}


def test_rated_turns_are_a_record_each(tmp_path: Path) -> None:
    turns = [
        {"from": "User", "value": "Hi"},
        {"from": "Assistant", "value": "Yes?", "label": "quality:1"},
        {"from": "User", "value": "Go"},
        {"from": "Assistant", "value": "Gone.", "label": "quality:3"},
    ]
    first, second = read(tmp_path, {"system": "", "mask": "User", "conversations": turns})
    assert (first.responses, first.scores, len(first.messages)) == (("Yes?",), ((1.0,),), 1)
    assert (second.responses, second.scores, len(second.messages)) == (("Gone.",), ((3.0,),), 3)
    assert first.id != second.id
