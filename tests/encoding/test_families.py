"""Templates of the shapes in the field: what is the prompt, what is scored, and that generation goes on from the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from align.encoding.encoder import Dropped, Encoder
from align.encoding.templates import Template, make_template
from align.encoding.truncation import Truncation
from align.records import EncodedGroup, Example, Message
from tests.tiny import tiny_tokenizer

FOLDER = Path(__file__).parent / "templates"
MARKS = ["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<end_of_turn>", "<start_of_turn>", "<|im_sep|>"]
PLAIN = (Message("user", "Hi"), Message("assistant", "Yo"), Message("user", "Again?"))
SYSTEM = (Message("system", "Be nice."), *PLAIN)
TOOLS = '[{"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}]'
CALL = Message(
    "assistant", "", tool_calls='[{"type": "function", "function": {"name": "weather", "arguments": {"c": 1}}}]'
)
RESULT = Message("tool", "3 C")
FAMILIES: dict[str, tuple[str, str, str]] = {
    # what ends a prompt, the response to it as it is scored, the token that ends it
    "qwen3": ("<|im_start|>assistant\n", "<think>\n\n</think>\n\nFine.", "<|im_end|>"),
    "llama3": ("<|start_header_id|>assistant<|end_header_id|>\n\n", "Fine.", "<|eot_id|>"),
    "gemma3": ("<start_of_turn>model\n", "Fine.", "<end_of_turn>"),
    "mistral_v03": ("Again?[/INST]", " Fine.", "</s>"),
    "phi4": ("<|im_start|>assistant<|im_sep|>", "Fine.", "<|im_end|>"),
    "smollm2": ("<|im_start|>assistant\n", "Fine.", "<|im_end|>"),
    "smollm3": ("<|im_start|>assistant\n", "Fine.", "<|im_end|>"),
    "deepseek_r1": ("<|Assistant|><think>\n", "\n</think>\n\nFine.", "</s>"),
}


def tokenizer() -> Any:
    made = tiny_tokenizer()
    made.add_special_tokens({"additional_special_tokens": [*MARKS, "<|User|>", "<|Assistant|>"]})
    return made


def template(name: str, **settings: Any) -> Template:
    return make_template(tokenizer(), str(FOLDER / f"{name}.jinja"), settings)


def encoder(name: str, rule: Truncation = Truncation(None, 10_000), **settings: Any) -> Encoder:
    return Encoder(tokenizer(), template(name, **settings), rule, scores_turns=True)


def encode(coder: Encoder, messages: tuple[Message, ...], answer: Message | str, **more: Any) -> EncodedGroup | Dropped:
    turn = Message("assistant", answer) if isinstance(answer, str) else answer
    row = Example("row", messages, (turn.content,), answers=(turn,), **more)
    return coder.encode([row])[0]


def scored(coder: Encoder, group: EncodedGroup | Dropped) -> str:
    assert isinstance(group, EncodedGroup), group
    ids = group.response_ids[0]
    weights = group.response_weights[0] if group.response_weights else [1.0] * len(ids)
    texts = [coder.tokenizer.decode([i]) if w else "·" for i, w in zip(ids, weights, strict=True)]
    return "".join(t for t, before in zip(texts, ["", *texts], strict=False) if t != "·" or before != "·")


@pytest.mark.parametrize("messages", [PLAIN, SYSTEM])
@pytest.mark.parametrize("name", FAMILIES)
def test_prompt_response_and_end(name: str, messages: tuple[Message, ...]) -> None:
    coder = encoder(name)
    group = encode(coder, messages, "Fine.")
    assert isinstance(group, EncodedGroup)
    start, response, end = FAMILIES[name]
    assert coder.tokenizer.decode(group.prompt_ids).endswith(start)
    assert coder.tokenizer.decode(group.response_ids[0]) == response + end
    assert coder.prompt_ids(messages) == group.prompt_ids  # generation goes on from what training scores
    assert messages[0].content in coder.tokenizer.decode(group.prompt_ids)


@pytest.mark.parametrize("name", FAMILIES)
def test_text_is_that_of_transformers(name: str) -> None:
    source = (FOLDER / f"{name}.jinja").read_text()
    own = tokenizer()
    turns = [m.as_turn() for m in SYSTEM]
    tokens = own.special_tokens_map
    expected, _ = render_jinja_template([turns], chat_template=source, add_generation_prompt=True, **tokens)
    assert template(name).prompt(SYSTEM) == expected[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("phi4", "Yo<|im_end|>·Fine.<|im_end|>"),
        ("gemma3", "Yo<end_of_turn>·Fine.<end_of_turn>"),
        ("llama3", "Yo<|eot_id|>·Fine.<|eot_id|>"),
        ("mistral_v03", " Yo</s>· Fine.</s>"),
        ("smollm2", "Yo<|im_end|>·Fine.<|im_end|>"),
        ("smollm3", "Yo<|im_end|>·Fine.<|im_end|>"),  # its {% generation %} block holds the header, which is no answer
        ("qwen3", "<think>\n\n</think>\n\nFine.<|im_end|>"),  # earlier turns lose their thought: not as generated
        ("deepseek_r1", "\n</think>\n\nFine.</s>"),
    ],
)
def test_every_turn_of_a_whole_dialogue_is_scored_as_it_would_be_generated(name: str, expected: str) -> None:
    coder = encoder(name)
    group = encode(coder, PLAIN, "Fine.", whole=True)
    assert scored(coder, group) == expected
    assert isinstance(group, EncodedGroup)
    told = any("earlier turn that is not scored" in note for note in group.notes)
    assert told == (name in ("qwen3", "deepseek_r1"))


def test_weights_of_turns() -> None:
    coder = encoder("phi4")
    turns = (PLAIN[0], PLAIN[1]._replace(weight=0.0), PLAIN[2])
    assert scored(coder, encode(coder, turns, "Fine.", whole=True)) == "Fine.<|im_end|>"
    half = encode(coder, (PLAIN[0], PLAIN[1]._replace(weight=0.5), PLAIN[2]), "Fine.", whole=True)
    assert isinstance(half, EncodedGroup)
    assert sorted(set(half.response_weights[0])) == [0.0, 0.5, 1.0]
    last = encode(coder, PLAIN, Message("assistant", "Fine.", weight=0.0), whole=True)
    assert scored(coder, last) == "Yo<|im_end|>"  # what nobody learns from at the end is left out
    none = encode(coder, turns, Message("assistant", "Fine.", weight=0.0), whole=True)
    assert none == Dropped("row", "no turn to train on")
    marked = encoder("smollm3")
    assert scored(marked, encode(marked, turns, "Fine.", whole=True)).endswith("Fine.<|im_end|>")
    assert "Yo" not in scored(marked, encode(marked, turns, "Fine.", whole=True))


def test_thoughts_are_written_where_the_template_knows_them_and_missed_aloud_elsewhere() -> None:
    kept = Message("assistant", "Fine.", reasoning_content="hm")
    inside = Message("assistant", "<think>\nhm\n</think>\n\nFine.")
    for answer in (kept, inside):
        assert scored(encoder("qwen3"), encode(encoder("qwen3"), PLAIN, answer)).startswith(
            "<think>\nhm\n</think>\n\nFine."
        )
        opened = encode(encoder("deepseek_r1"), PLAIN, answer)
        assert scored(encoder("deepseek_r1"), opened) == "hm\n</think>\n\nFine.</s>"
        closed = encode(encoder("qwen3", enable_thinking=False), PLAIN, answer)
        assert isinstance(closed, EncodedGroup)
        assert scored(encoder("qwen3"), closed) == "Fine.<|im_end|>"
        assert closed.notes == ["with a thought that the template leaves out"]
    lost = encode(encoder("llama3"), PLAIN, kept)
    assert isinstance(lost, EncodedGroup)
    assert lost.notes == ["with a thought that the template leaves out"]


def test_settings_move_the_empty_thought_into_the_prompt_and_stay_with_the_folder() -> None:
    told = template("qwen3").told
    assert "'<think>\\n\\n</think>\\n\\n' before a response" in told[0]
    assert "enable_thinking" in told[0]
    off = template("qwen3", enable_thinking=False)
    assert off.prompt(PLAIN).endswith("assistant\n<think>\n\n</think>\n\n")
    exported = tokenizer()
    exported.chat_template = off.jinja
    turns = [m.as_turn() for m in PLAIN]
    assert exported.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == off.prompt(PLAIN)
    again = make_template(exported)
    assert again.prompt(PLAIN) == off.prompt(PLAIN)
    assert make_template(exported, "auto", {"enable_thinking": False}).jinja == off.jinja
    assert exported.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True, enable_thinking=True
    ).endswith("assistant\n")


def test_dates_are_told_fixed_by_a_setting_and_part_of_the_fingerprint(monkeypatch) -> None:
    today = template("llama3")
    assert "today's date" in today.told[0]
    fixed = template("llama3", date_string="26 Jul 2024")
    assert "26 Jul 2024" in fixed.prompt(PLAIN)
    assert not fixed.told
    from align.encoding import program

    class Tomorrow(program.datetime):  # type: ignore[name-defined,misc]
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 1, 2)

    monkeypatch.setattr(program, "datetime", Tomorrow)
    assert "02 Jan 2031" in template("llama3").prompt(PLAIN)
    assert template("llama3").fingerprint != today.fingerprint
    assert template("llama3", date_string="26 Jul 2024").fingerprint == fixed.fingerprint


class TestTools:
    dialogue = (Message("user", "Weather?"), CALL, RESULT)

    def test_calls_results_and_schemas_are_rendered(self) -> None:
        coder = encoder("qwen3")
        group = encode(coder, self.dialogue, "3 C.", tools=TOOLS)
        assert isinstance(group, EncodedGroup)
        prompt = coder.tokenizer.decode(group.prompt_ids)
        assert '"name": "weather", "description"' in prompt
        assert '<tool_call>\n{"name": "weather", "arguments": {"c": 1}}\n</tool_call>' in prompt
        assert "<tool_response>\n3 C\n</tool_response>" in prompt
        assert coder.prompt_ids(self.dialogue, TOOLS) == group.prompt_ids
        call = encode(coder, self.dialogue[:1], CALL, tools=TOOLS)
        assert '{"name": "weather", "arguments": {"c": 1}}' in scored(coder, call)

    @pytest.mark.parametrize(
        ("name", "tools", "reason"),
        [
            ("gemma3", "", "chat template refused: Conversation roles must alternate"),
            ("phi4", "", "chat template leaves out a tool call"),
            ("smollm2", "", "chat template leaves out a tool call"),
            ("llama3", TOOLS, "chat template leaves out the tools"),
        ],
    )
    def test_what_a_template_cannot_write_drops_the_row(self, name: str, tools: str, reason: str) -> None:
        result = encode(encoder(name), self.dialogue, "3 C.", tools=tools)
        assert isinstance(result, Dropped)
        assert result.reason.startswith(reason)

    def test_plain_transcripts_have_none(self) -> None:
        coder = Encoder(tiny_tokenizer(), make_template(tiny_tokenizer(), "plain"), Truncation())
        assert encode(coder, self.dialogue, "3 C.") == Dropped("row", "a plain transcript has no tool turns")
        assert encode(coder, PLAIN, "x", tools=TOOLS) == Dropped("row", "a plain transcript has no tools")
        assert encode(coder, PLAIN, CALL) == Dropped("row", "a plain transcript has no tool turns")


def test_the_real_qwen2_tokenizer(shared) -> None:
    own = AutoTokenizer.from_pretrained(shared / "tokenizer-qwen2")
    coder = Encoder(own, make_template(own), Truncation(None, 4096), scores_turns=True)
    row = Example("row", PLAIN, ("Fine.",), whole=True)
    assert scored(coder, coder.encode([row])[0]) == "Yo<|im_end|>·Fine.<|im_end|>"
    reference = own.apply_chat_template([m.as_turn() for m in PLAIN], tokenize=True, add_generation_prompt=True)
    assert coder.prompt_ids(PLAIN) == list(reference["input_ids"])
