"""Samples whose thought and answer stand between special tokens say what the row they would be trained as says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from align.encoding.encoder import Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.records import EncodedGroup, Example, Message
from align.rounds.plan import RoundPlan
from align.sampling.generation import Sample
from align.sampling.stopping_criteria import StopCriteria
from tests.tiny import tiny_tokenizer

QUESTION = (Message("user", "Hi"),)
TURNS = "{% for m in messages %}{% if m.role == 'assistant' %}"
HARMONY = (
    TURNS + "{% if m.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
GEMMA = (
    TURNS + "<|turn>model\n{% if m.reasoning_content %}<|channel>thought\n{{ m.reasoning_content }}\n<channel|>"
    "{% endif %}{{ m.content }}<turn|>\n{% else %}<|turn>{{ m.role }}\n{{ m.content }}<turn|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)
COMMAND = (
    TURNS + "<|CHATBOT|>{% if m.reasoning_content %}<|START_THINKING|>{{ m.reasoning_content }}<|END_THINKING|>"
    "{% endif %}<|START_RESPONSE|>{{ m.content }}<|END_RESPONSE|>"
    "{% else %}<|USER|>{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|CHATBOT|>{% endif %}"
)
OPENED = COMMAND.replace("<|CHATBOT|>{% endif %}", "<|CHATBOT|><|START_THINKING|>{% endif %}")
CHATML = (
    TURNS + "<|im_start|>assistant\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
    "{% endif %}{{ m.content }}<|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHAPES = {
    # template, its special tokens, what decoding without them makes of a thought and an answer
    "gpt-oss": (
        HARMONY,
        ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"],
        "analysisHm.assistantfinalFine.",
    ),
    "gemma 4": (GEMMA, ["<|turn>", "<turn|>", "<|channel>", "<channel|>"], "thought\nHm.\nFine."),
    "command": (
        COMMAND,
        [f"<|{name}|>" for name in ("USER", "CHATBOT", "START_RESPONSE", "END_RESPONSE")]
        + ["<|START_THINKING|>", "<|END_THINKING|>"],
        "Hm.Fine.",
    ),
    "special tags": (CHATML, ["<think>", "</think>"], "\nHm.\n\n\nFine."),
    "plain tags": (CHATML, [], "<think>\nHm.\n</think>\n\nFine."),
}
SHAPES["opened"] = (OPENED, *SHAPES["command"][1:])


def encoder(shape: str, folder: Path) -> Encoder:
    source, special, _ = SHAPES[shape]
    tokenizer: Any = tiny_tokenizer(source)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    file = folder / "own.jinja"
    file.write_text(source)
    return Encoder(tokenizer, make_template(tokenizer, str(file)), Truncation(None, 10_000))


def response(coder: Encoder, answer: Message) -> list[int]:
    """The tokens behind the prompt as transformers renders the dialogue, up to the token that ends the turn."""
    turns = [m.as_turn() for m in QUESTION]
    more = {"thinking": answer.reasoning_content} if answer.reasoning_content else {}
    write = coder.tokenizer.apply_chat_template
    asked = write(turns, tokenize=False, add_generation_prompt=True)
    whole = write([*turns, {**answer.as_turn(), **more}], tokenize=False)
    ids = coder.tokenizer(whole.removeprefix(asked), add_special_tokens=False)["input_ids"]
    return list(ids[: ids.index(coder.template.eos_id) + 1])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sample_says_its_thought_and_its_answer(shape: str, tmp_path: Path) -> None:
    coder = encoder(shape, tmp_path)
    ends = StopCriteria(coder.tokenizer, [coder.template.eos_id])
    ids = response(coder, Message("assistant", "Fine.", reasoning_content="Hm."))
    drawn = ends.completion(ids, "eos")
    assert drawn.text == SHAPES[shape][2]
    said = coder.template.said(ids, drawn.text)
    assert said == "<think>\nHm.\n</think>\n\nFine."
    group = coder.encode([Example("row", QUESTION, (said,))])[0]
    assert isinstance(group, EncodedGroup)
    assert group.response_ids == [ids]  # what is trained on is what was drawn
    plan: Any = RoundPlan(0, None, [], "", template=coder.template)  # type: ignore[arg-type]
    assert plan.said(Sample(0, 0, *drawn[:3])) == said


@pytest.mark.parametrize("shape", ["gpt-oss", "gemma 4", "command", "special tags", "plain tags"])
def test_an_answer_without_a_thought_is_itself(shape: str, tmp_path: Path) -> None:
    coder = encoder(shape, tmp_path)
    ids = response(coder, Message("assistant", "Fine."))
    text = StopCriteria(coder.tokenizer, [coder.template.eos_id]).completion(ids, "eos").text
    assert coder.template.said(ids, text) == "Fine."
    assert coder.template.said(ids[-3:], "e.") == "e."  # nothing of the template's begins it


def test_a_thought_that_is_cut_off_has_no_answer(tmp_path: Path) -> None:
    coder = encoder("gpt-oss", tmp_path)
    ids = response(coder, Message("assistant", "Fine.", reasoning_content="Hm."))
    within = ids[: ids.index(coder.tokenizer.convert_tokens_to_ids("<|end|>")) - 1]
    assert coder.template.said(within, "analysisHm") == "<think>\nHm"


def test_thoughts_inside_a_turn_are_not_said_by_templates_that_write_them_apart(tmp_path: Path) -> None:
    coder = encoder("gpt-oss", tmp_path)
    inside = Message("assistant", "<think>\nHm.\n</think>\n\nYo")
    prompt = coder.template.prompt((*QUESTION, inside, Message("user", "And?")))
    assert "<|channel|>analysis<|message|>Hm.<|end|>" in prompt
    assert "think>" not in prompt


def test_the_next_turn_ends_an_answer_that_nothing_else_ends(tmp_path: Path) -> None:
    """GLM 4.5 writes no end; TRL's template for its training marks `<|user|>` as generated, its folders end there."""
    glm = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' }}\n{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    (tmp_path / "glm.jinja").write_text(glm)
    for special, end in ((["<|user|>", "<|assistant|>"], "<|user|>"), ([], "</s>")):
        tokenizer: Any = tiny_tokenizer()
        tokenizer.add_special_tokens({"additional_special_tokens": special})
        template = make_template(tokenizer, str(tmp_path / "glm.jinja"))
        assert tokenizer.convert_ids_to_tokens(template.eos_id) == end
        assert any("begins the next turn" in told for told in template.told) == bool(special)
