"""What goes when a dialogue is too long: whole old turns, then the start of a text, never a template's markup."""

from __future__ import annotations

import pytest

from align.encoding.encoded_candidate import drawn_group
from align.encoding.encoder import Dropped, Encoder
from align.encoding.rendering import RowRefused
from align.encoding.templates import make_template
from align.encoding.truncation import PRESETS, Fit, Truncation, fit
from align.models.small import CHATML
from align.records import EncodedGroup, Example, Message
from tests.tiny import tiny_tokenizer

FRAME = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def coder(total: int, template: str | None = CHATML, *, turns: bool = False, **rule) -> Encoder:
    tokenizer = tiny_tokenizer(template)
    return Encoder(tokenizer, make_template(tokenizer), Truncation(max_total=total, **rule), scores_turns=turns)


def encoded(own: Encoder, row: Example) -> EncodedGroup:
    result = own.encode([row])[0]
    assert isinstance(result, EncodedGroup), result
    return result


def asked(*texts: str, system: str = "") -> tuple[Message, ...]:
    roles = ("user", "assistant")
    turns = [Message(roles[i % 2], text) for i, text in enumerate(texts)]  # type: ignore[arg-type]
    return (*([Message("system", system)] if system else []), *turns)


def test_markup_stays_and_the_start_of_the_question_goes() -> None:
    own = coder(60)
    group = encoded(own, Example("row", asked("a" * 30 + "b" * 30), ("yes", "no"), ranking=((0,), (1,))))
    text = own.tokenizer.decode(group.prompt_ids)
    kept = text.removeprefix("<|im_start|>user\n").removesuffix("<|im_end|>\n<|im_start|>assistant\n")
    assert text == FRAME.format(kept)
    assert set(kept) <= {"a", "b"}
    assert kept.endswith("b" * 30)
    assert len(group.prompt_ids) + max(map(len, group.response_ids)) == 60
    assert group.length > 60


def test_whole_turns_go_before_any_text_and_before_the_response() -> None:
    own = coder(80)
    group = encoded(own, Example("row", asked("old", "older", "mid", "mid", "last"), ("y" * 45,)))
    assert own.tokenizer.decode(group.prompt_ids) == FRAME.format("last")
    assert group.truncated == [False]


def test_the_last_turn_stays_whole_and_the_response_is_cut() -> None:
    own = coder(60)
    question = "q" * 20
    group = encoded(own, Example("row", asked(question), ("y" * 500,)))
    assert own.tokenizer.decode(group.prompt_ids) == FRAME.format(question)
    assert group.truncated == [True]
    assert len(group.prompt_ids) + len(group.response_ids[0]) == 60


def test_neither_question_nor_answer_is_cut_to_nothing() -> None:
    group = encoded(coder(100), Example("row", asked("q" * 500), ("y" * 500,)))
    assert len(group.prompt_ids) == 75
    assert len(group.response_ids[0]) == 25


def test_a_long_system_text_does_not_push_out_the_question() -> None:
    own = coder(90)
    group = encoded(own, Example("row", asked("What?", system="s" * 300), ("yes",)))
    text = own.tokenizer.decode(group.prompt_ids)
    assert text.endswith(FRAME.format("What?"))
    assert text.startswith("<|im_start|>system\ns")
    short = encoded(own, Example("row", asked("q" * 300, system="kind"), ("yes",)))
    assert own.tokenizer.decode(short.prompt_ids).startswith(
        "<|im_start|>system\nkind<|im_end|>\n<|im_start|>user\nqqq"
    )


def test_a_prompt_that_cannot_be_shorter_drops_the_row() -> None:
    row = Example("row", asked("Hi"), ("y" * 50,))
    result = coder(55, long_response="drop").encode([row])[0]
    assert result == Dropped("row", "no room for the last turn beside the response")


def test_whole_dialogues_lose_their_first_exchanges() -> None:
    own = coder(100, turns=True)
    row = Example("row", asked(*["turn"] * 20, "last"), ("fine",), whole=True)
    group = encoded(own, row)
    text = own.tokenizer.decode([*group.prompt_ids, *group.response_ids[0]])
    assert text.endswith("<|im_start|>assistant\nturn<|im_end|>\n" + FRAME.format("last") + "fine<|im_end|>")
    assert text.startswith("<|im_start|>user\nturn<|im_end|>\n")
    assert 60 < len(group.prompt_ids) + len(group.response_ids[0]) <= 100
    assert group.response_weights
    assert 0.0 in group.response_weights[0]


def test_answers_of_the_same_tokens_are_dropped_where_one_is_to_be_better() -> None:
    own = coder(60)
    cut = Example("row", asked("Hi"), ("y" * 90 + "good", "y" * 90 + "bad"), ranking=((0,), (1,)))
    assert own.encode([cut])[0] == Dropped("row", "identical after truncation")
    bare = Encoder(tiny_tokenizer(), make_template(tiny_tokenizer()), Truncation())
    same = Example("row", asked("Hi"), (" yes", "yes"), ranking=((0,), (1,)))
    assert bare.encode([same])[0] == Dropped("row", "identical in tokens")
    tied = Example("row", asked("Hi"), ("y" * 90 + "good", "y" * 90 + "bad"), ranking=((0, 1),))
    assert isinstance(own.encode([tied])[0], EncodedGroup)


@pytest.mark.parametrize("turns", [1, 40, 400])
def test_every_length_ends(turns: int) -> None:
    row = Example("row", asked(*["some words"] * (2 * turns), "last words"), ("fine",))
    group = encoded(coder(64), row)
    assert len(group.prompt_ids) + len(group.response_ids[0]) <= 64


def test_limits_that_methods_take() -> None:
    assert fit(PRESETS["usual"], 1500, 900, keeps_prompt=True) == Fit(1500, 548)
    assert fit(PRESETS["usual"], 1900, 900, keeps_prompt=True) == Fit(1536, 512)
    assert fit(PRESETS["usual"], 1900, 300, keeps_prompt=True) == Fit(1748, 300)
    assert [PRESETS[name].max_total for name in ("usual", "sft", "reward", "rahf", "pro", "dpo", "rm", "dpa")] == [
        2048, 4096, 2048, 512, 512, 512, 1024, 4096,
    ]  # fmt: skip


def test_prompts_of_their_own_per_response() -> None:
    own = coder(200)
    first, second = asked("Hi", "A", "More"), asked("Hi", "B", "More")
    row = Example("row", first, ("yes", "no"), ranking=((0,), (1,)), contexts=(first, second))
    group = encoded(own, row)
    assert [own.tokenizer.decode(p) for p in group.prompts] == [
        FRAME.format("Hi") + f"{middle}<|im_end|>\n" + FRAME.format("More") for middle in "AB"
    ]
    assert [own.tokenizer.decode(r) for r in group.response_ids] == ["yes<|im_end|>", "no<|im_end|>"]
    short = encoded(coder(36), row)
    assert short.own_prompt_ids == []  # only what they share is left


@pytest.mark.parametrize(("ids", "told"), [((), "prompt over the limit"), ((4,) * 3, "drawn tokens over the limit")])
def test_a_row_of_a_prompt_alone_has_drawn_nothing(ids: tuple[int, ...], told: str) -> None:
    row = Example("a", (Message("user", "b"),), ("",), response_ids=(ids,))
    with pytest.raises(RowRefused, match=told):
        drawn_group(row, [[3] * 9], 1, 9)
