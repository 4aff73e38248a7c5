"""Dialogues written into one text with a chat template's markup, as the templates' own renderers write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from align.data.helpsteer import HelpSteer
from align.data.markup import prompt_turns, whole_dialogue
from align.data.source import Report
from align.errors import DataError
from align.records import Message
from tests.data.rows import written
from tests.data.test_layouts import read

SYSTEM, HI, YO = Message("system", "S."), Message("user", "Hi"), Message("assistant", "Yo.")
MORE = (HI, YO, Message("user", "And?"), Message("assistant", "Ok."))
TASK = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
TEXTS: dict[str, tuple[str, tuple[Message, ...]]] = {
    "ChatML": (
        "<|im_start|>system\nS.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo.<|im_end|>\n",
        (SYSTEM, HI, YO),
    ),
    "Llama 3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS.<|eot_id|><|start_header_id|>user"
        "<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nYo.<|eot_id|>",
        (SYSTEM, HI, YO),
    ),
    "Llama 2": (
        "<s>[INST] <<SYS>>\nS.\n<</SYS>>\n\nHi [/INST] Yo. </s><s>[INST] And? [/INST] Ok. </s>",
        (SYSTEM, *MORE),
    ),
    "Mistral": ("<s>[INST] Hi [/INST]Yo.</s>[INST] And? [/INST]Ok.</s>", MORE),
    "Gemma": ("<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nYo.<end_of_turn>\n", (HI, YO)),
    "Zephyr": ("<|system|>\n</s>\n<|user|>\nHi</s>\n<|assistant|>\nYo.</s>\n", (HI, YO)),
    "Open Assistant": ("<|prompter|>Hi<|endoftext|><|assistant|>Yo.<|endoftext|>", (HI, YO)),
    "Guanaco": ("### Human: Hi### Assistant: Yo.### Human: And?### Assistant: Ok.", MORE),
    "Alpaca": (f"{TASK}### Instruction:\nHi\n\n### Response:\nYo.", (HI, YO)),
    "Alpaca with input": (
        f"{TASK}### Instruction:\nHi\n\n### Input:\nthere\n\n### Response:\nYo.",
        (Message("user", "Hi\n\nthere"), YO),
    ),
    "Vicuna": (
        "A chat between a user and an assistant. USER: Hi ASSISTANT: Yo.</s>USER: And? ASSISTANT: Ok.</s>",
        MORE,
    ),
    "plain speakers": ("System: S.\n\nUser: Hi\n\nAssistant: Yo.", (SYSTEM, HI, YO)),
    "Open Assistant, pairs": ("prompter: Hi\nassistant: Yo.\nprompter: And?\nassistant: Ok.", MORE),
    "HH-RLHF, line by line": ("Human: Hi\nAssistant: Yo.\nHuman: And?\nAssistant: Ok.", MORE),
    "HH-RLHF": ("\n\nHuman: Hi\n\nAssistant: Yo.", (HI, YO)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_alone_is_a_dialogue(name: str, tmp_path: Path) -> None:
    text, turns = TEXTS[name]
    (example,) = read(tmp_path, {"text": text})
    assert (*example.messages, *example.turns) == turns
    assert example.whole


@pytest.mark.parametrize(
    "text",
    [
        "Once upon a time.",
        "<|im_start|>user\nHi<|im_end|>\n",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>stranger\nYo.<|im_end|>\n",
        "<|im_start|>user\nHi<|im_end|> and <|im_start|>assistant\nYo.<|im_end|>\n",
        "[INST] Hi [/INST] Yo. [/INST] Ok.",
        "### Instruction:\nHi\n\n### Response:\nYo.\n### Response:\nOk.",
        "He said USER: Hi ASSISTANT: Yo.",
        "<|assistant|>Yo.<|endoftext|>",
    ],
)
def test_any_other_text_alone_is_refused(text: str, tmp_path: Path) -> None:
    assert whole_dialogue(text) == []
    with pytest.raises(
        DataError, match=r"a text alone does not tell what is asked and what answers: write who says what as messages"
    ):
        read(tmp_path, {"text": text})


@pytest.mark.parametrize(
    ("prompt", "end"),
    [
        ("<|im_start|>system\nS.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n"),
        ("<|im_start|>system\nS.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n", "<|im_end|>"),
        ("[INST] <<SYS>>\nS.\n<</SYS>>\n\nHi [/INST]", " </s>"),
        ("<|system|>\nS.</s>\n<|user|>\nHi</s>\n<|assistant|>\n", "</s>"),
    ],
)
def test_markup_of_a_prompt_goes_with_its_answers(prompt: str, end: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": prompt, "chosen": f"Good.{end}", "rejected": f"Bad.{end}"},
        {"chosen": f"{prompt}Good.{end}", "rejected": f"{prompt}Bad.{end}"},
        {"prompt": prompt, "completion": f"Good.{end}"},
    ]
    for row in rows[: 3 if "assistant" in prompt or "INST" in prompt else 1]:
        (example,) = read(tmp_path, row)
        assert example.messages == (SYSTEM, HI)
        assert example.responses == ("Good.", "Bad.")[: len(example.responses)]


@pytest.mark.parametrize(
    "prompt",
    ["### Instruction: say hi", "USER: Hi", "Mark [INST] it", "<|im_start|>user\nHi", "### Human: Hi", "User: Hi"],
)
def test_a_prompt_that_is_not_in_markup_to_its_end_stays_as_it_is(prompt: str) -> None:
    assert prompt_turns(prompt) == [Message("user", prompt)]


@pytest.mark.parametrize(
    "prompt",
    [
        "prompter: Hi\nassistant: Yo.\nprompter: And?",
        "Human: Hi\nAssistant: Yo.\nHuman: And?\nAssistant:",
        "User: Hi\nAssistant: Yo.\nUser: And?\nAssistant:",
    ],
)
def test_a_prompt_of_named_speakers_is_its_turns(prompt: str, tmp_path: Path) -> None:
    (example,) = read(tmp_path, {"prompt": prompt, "chosen": "Ok.", "rejected": "No."})
    assert (example.messages, example.responses) == (MORE[:3], ("Ok.", "No."))


@pytest.mark.parametrize("prompt", ["User: Hi", "**Human**: Hi", "用户：Hi", "prompter: Hi\nassistant: Yo."])
def test_a_speaker_that_stays_inside_a_prompt_is_told(prompt: str, tmp_path: Path) -> None:
    report = Report()
    (example,) = read(tmp_path, {"prompt": prompt, "chosen": "Ok.", "rejected": "No."}, report=report)
    assert example.messages == (Message("user", prompt),)
    assert any("markup of a chat template or a transcript" in line for line in report.warnings)


def test_spaces_around_an_answer_to_a_transcript_are_its_markup(tmp_path: Path) -> None:
    rows = {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": " Good.", "rejected": " Bad."}
    (example,) = read(tmp_path, rows)
    assert example.responses == ("Good.", "Bad.")
    (example,) = read(tmp_path, {**rows, "prompt": "Hi"})
    assert example.responses == (" Good.", " Bad.")


def test_turns_inside_the_prompts_of_helpsteer2(tmp_path: Path) -> None:
    grades = dict.fromkeys(("helpfulness", "correctness", "coherence", "complexity", "verbosity"), 3)
    row = {"prompt": "Hi\n<extra_id_1>Assistant\nYo.\n<extra_id_1>User\nAnd?", "response": "Ok.", **grades}
    (example,) = HelpSteer(str(written(tmp_path, row))).read("train", Report())
    assert (*example.messages, *example.turns) == MORE
    (example,) = read(tmp_path, row)
    assert (*example.messages, *example.turns) == MORE
