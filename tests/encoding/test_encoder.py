"""Templates, the prompt boundary, EOS, BOS, truncation: what reaches the model is what the text says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from align.encoding.encoder import Dropped, Encoder
from align.encoding.templates import PLAIN_JINJA, ChatTemplate, PlainTranscript, make_template
from align.encoding.truncation import PRESETS, Fit, Truncation, fit
from align.errors import ConfigError, ModelError
from align.models.small import CHATML
from align.models.tokenizer import choose_pad_token
from align.records import EncodedGroup, Example, Message
from tests.tiny import tiny_tokenizer

WIDE = Truncation(None, 10_000)


def example(*turns: str, responses: tuple[str, ...] = ("Yes.", "No, not at all."), system: str = "") -> Example:
    roles = ("user", "assistant")
    messages = [Message(roles[i % 2], turn) for i, turn in enumerate(turns)]
    head = [Message("system", system)] if system else []
    return Example("row", tuple(head + messages), responses, ranking=tuple((i,) for i in range(len(responses))))


def encoder(template: str | None = None, rule: Truncation = WIDE) -> Encoder:
    tokenizer = tiny_tokenizer(template)
    return Encoder(tokenizer, make_template(tokenizer), rule)


def encode(coder: Encoder, row: Example) -> EncodedGroup:
    result = coder.encode([row])[0]
    assert isinstance(result, EncodedGroup), result
    return result


class TestPlain:
    def test_text_bos_and_eos(self) -> None:
        coder = encoder()
        group = encode(coder, example("Hi", "Hello", "How are you?"))
        decode = coder.tokenizer.decode
        assert decode(group.prompt_ids) == "<s>\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: How are you?\n\nAssistant:"
        assert [decode(r) for r in group.response_ids] == [" Yes.</s>", " No, not at all.</s>"]
        assert group.prompt_ids.count(coder.tokenizer.bos_token_id) == 1
        assert all(r.count(coder.tokenizer.eos_token_id) == 1 for r in group.response_ids)

    def test_special_tokens_typed_in_the_text_stay_text(self) -> None:
        coder = encoder()
        group = encode(coder, example("What is </s>?", responses=("An <|im_end|> tag </s>",)))
        eos = coder.tokenizer.eos_token_id
        assert eos not in group.prompt_ids
        assert group.response_ids[0].count(eos) == 1
        assert coder.tokenizer.decode(group.response_ids[0][:-1]) == " An <|im_end|> tag </s>"

    def test_prompt_for_the_sampler_is_the_prompt_of_training(self) -> None:
        for template in (None, CHATML):
            coder = encoder(template)
            row = example("Hi", "Hello", "How are you?")
            assert coder.prompt_ids(row.messages) == encode(coder, row).prompt_ids


class TestChat:
    def test_template_writes_everything_and_turn_end_is_the_eos(self) -> None:
        coder = encoder(CHATML)
        group = encode(coder, example("Hi", system="Be kind."))
        decode = coder.tokenizer.decode
        expected = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        assert decode(group.prompt_ids) == expected
        assert [decode(r) for r in group.response_ids] == ["Yes.<|im_end|>", "No, not at all.<|im_end|>"]
        assert coder.template.eos_id == coder.tokenizer.convert_tokens_to_ids("<|im_end|>")

    def test_template_that_writes_bos_gives_one_bos(self) -> None:
        coder = encoder("{{ bos_token }}" + CHATML)
        assert encode(coder, example("Hi")).prompt_ids.count(coder.tokenizer.bos_token_id) == 1

    def test_template_that_ends_without_a_special_token_uses_the_tokenizer_eos(self) -> None:
        coder = encoder(PLAIN_JINJA.replace("{BOS}", "{{ bos_token }}"))
        assert coder.template.eos_id == coder.tokenizer.eos_token_id
        plain = encoder()
        row = example("Hi", "Hello", "How are you?")
        assert encode(coder, row) == encode(plain, row)

    def test_special_tokens_typed_in_the_text_drop_the_row(self) -> None:
        row = example("Ignore this <|im_end|>")
        assert encoder(CHATML).encode([row]) == [Dropped("row", "special token typed in the text")]

    def test_template_that_refuses_a_system_turn_drops_the_row_with_its_words(self) -> None:
        refuse = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
        result = encoder(refuse).encode([example("Hi", system="Be kind."), example("Hi")])
        assert result[0] == Dropped("row", "chat template refused: no system role")
        assert isinstance(result[1], EncodedGroup)

    @pytest.mark.parametrize(
        ("template", "message"),
        [
            ("{% if messages[-1]['role'] == 'assistant' %}{{ raise_exception('no') }}{% endif %}x", "cannot render"),
            ("{% for m in messages %}{{ loop.length }}{{ m['content'] }}{% endfor %}", "rewrites the dialogue"),
            ("{{ broken", "cannot render"),
            ("{{ messages[0].content }}", "leaves out the answer"),
            ("{{ messages[0].content }}{{ bos_token }}", "leaves out the answer"),  # ends like the tag of a thought
            ("{{ messages[-1].content }}{{ messages[0].content }}{{ bos_token }}", "rewrites the dialogue"),
        ],
    )
    def test_unusable_templates_are_named(self, template: str, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            encoder(template)

    def test_chat_without_a_template_says_what_to_set(self) -> None:
        with pytest.raises(ModelError, match=r"model\.backbone\.chat_template"):
            make_template(tiny_tokenizer(), "chat")

    def test_tokenizer_without_eos_is_refused(self) -> None:
        tokenizer = tiny_tokenizer()
        tokenizer.eos_token = None
        with pytest.raises(ModelError, match="no end-of-sequence token"):
            PlainTranscript(tokenizer)


class TestBoundary:
    """A tokenizer that merges across the boundary: the straddling token belongs to the response, for all candidates."""

    def merging(self) -> PreTrainedTokenizerFast:
        pieces = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), ":Ġ", ":ĠY"]
        merges = [(":", "Ġ"), (":Ġ", "Y")]
        backend = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = __import__("tokenizers").decoders.ByteLevel()
        backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
        return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")

    def test_all_candidates_share_the_prompt_and_no_text_is_lost(self) -> None:
        tokenizer = self.merging()
        coder = Encoder(tokenizer, PlainTranscript(tokenizer), WIDE)
        group = encode(coder, example("Hi", responses=("Yes", "No")))
        # "Assistant:" + " Yes" holds the merge ":ĠY", "Assistant:" + " No" the merge ":Ġ": both begin before the boundary
        assert tokenizer.decode(group.prompt_ids) == "\n\nHuman: Hi\n\nAssistant"
        assert [tokenizer.decode(r) for r in group.response_ids] == [": Yes</s>", ": No</s>"]

    def test_a_prefix_that_tokenises_differently_is_not_shared(self) -> None:
        tokenizer = self.merging()
        coder = Encoder(tokenizer, PlainTranscript(tokenizer), WIDE)
        alone = encode(coder, example("Hi", responses=("Yes",)))
        both = encode(coder, example("Hi", responses=("Yes", "No")))
        assert both.prompt_ids == alone.prompt_ids[: len(both.prompt_ids)]

    @pytest.mark.parametrize("name", ["stories260K-hf", "babyllama105-hf", "tokenizer-gpt2", "tokenizer-qwen2"])
    def test_real_tokenizers_lose_nothing(self, shared, name: str) -> None:
        tokenizer = AutoTokenizer.from_pretrained(shared / name)
        coder = Encoder(tokenizer, make_template(tokenizer), WIDE)
        row = example(
            "Say it: “café” — 日本 👩‍👩‍👧", "ok\n\n- one\n- two", "More?", responses=("Yes.", "No…", "\n\n1. a\n2. b")
        )
        group = encode(coder, row)
        for text, ids in zip(row.responses, group.response_ids, strict=True):
            rendered = coder.template.render(row.messages, text)
            whole = tokenizer(rendered.prompt + rendered.response, add_special_tokens=False)["input_ids"]
            start = 1 if coder.template.adds_bos else 0
            assert group.prompt_ids[start:] + ids[:-1] == whole
            assert ids[-1] == coder.template.eos_id


class TestTruncation:
    def test_rules(self) -> None:
        assert fit(PRESETS["rahf"], 257, 10) == Fit(dropped="prompt longer than 256 tokens")
        assert fit(PRESETS["rahf"], 256, 300) == Fit(256, 256)
        assert fit(PRESETS["pro"], 500, 10) == Fit(384, 128)
        assert fit(PRESETS["dpo"], 400, 112) == Fit(400, 112)  # fits whole
        assert fit(PRESETS["dpo"], 400, 113) == Fit(256, 256)  # one too many: the prompt is cut first
        assert fit(PRESETS["rm"], 1000, 100) == Fit(924, 100)
        assert fit(PRESETS["rm"], 5, 1024) == Fit(dropped="response longer than 1023 tokens")

    def test_a_cut_response_has_no_eos_and_is_marked(self) -> None:
        coder = encoder(rule=Truncation(None, 40, "cut_if_needed", "cut"))
        group = encode(coder, example("Hi", responses=("ab", "x" * 99)))
        eos = coder.tokenizer.eos_token_id
        assert group.truncated == [False, True]
        assert group.response_ids[0][-1] == eos
        assert eos not in group.response_ids[1]
        assert len(group.prompt_ids) + len(group.response_ids[1]) == 40

    def test_dialogues_are_cut_at_a_turn_and_keep_bos_and_system(self) -> None:
        row = example("first " * 9, "answer", "second", "answer", "third", system="S")
        coder = encoder(rule=Truncation(80, 200, "cut", "cut"))
        text = coder.tokenizer.decode(encode(coder, row).prompt_ids)
        assert text == "<s>\n\nSystem: S\n\nHuman: second\n\nAssistant: answer\n\nHuman: third\n\nAssistant:"

    def test_a_long_last_turn_is_cut_inside(self) -> None:
        coder = encoder(rule=Truncation(30, 60, "cut", "cut"))
        group = encode(coder, example("old", "old", "y" * 99))
        assert len(group.prompt_ids) == 30
        assert coder.tokenizer.decode(group.prompt_ids) == "<s>\n\nHuman: " + "y" * 8 + "\n\nAssistant:"

    def test_cutting_by_tokens_can_be_asked_for(self) -> None:
        coder = encoder(rule=Truncation(30, 60, "cut", "cut", at_turn=False))
        whole = "\n\nHuman: first turn\n\nAssistant: answer\n\nHuman: last\n\nAssistant:"
        group = encode(coder, example("first turn", "answer", "last"))
        assert coder.tokenizer.decode(group.prompt_ids) == "<s>" + whole[-29:]

    @pytest.mark.parametrize(
        "settings",
        [{"max_total": 1}, {"max_prompt": 0}, {"max_prompt": 2000}, {"long_prompt": "drop"}],
    )
    def test_impossible_limits_are_refused(self, settings) -> None:
        with pytest.raises(ConfigError, match=r"truncation\.(max_total|max_prompt|long_prompt)"):
            Truncation(**settings)


def test_very_long_text_is_dropped_and_said() -> None:
    assert encoder().encode([example("x" * 1_000_001)]) == [Dropped("row", "text over 1,000,000 characters")]


def test_scores_and_weight_travel_along() -> None:
    row = replace(example("Hi"), attributes=("score",), scores=((1.0,), (0.5,)), weight=2.0)
    group = encode(encoder(), row)
    assert (group.scores, group.weight, group.ranks) == ([[1.0], [0.5]], 2.0, [0, 1])


def test_fingerprint_depends_on_tokenizer_template_and_limits() -> None:
    coders = [encoder(), encoder(CHATML), encoder(rule=PRESETS["pro"]), encoder()]
    prints = [c.fingerprint for c in coders]
    assert prints[0] == prints[3]
    assert len(set(prints)) == 3


class TestPadToken:
    def test_a_pad_that_ends_responses_is_never_chosen(self, shared) -> None:
        chosen = {}
        for name in ("stories260K-hf", "tokenizer-gpt2", "tokenizer-qwen2"):
            tokenizer = AutoTokenizer.from_pretrained(shared / name)
            chosen[name] = choose_pad_token(tokenizer)
            assert chosen[name] not in (tokenizer.eos_token, "<|im_end|>")
        assert chosen["stories260K-hf"] == "<unk>"
        assert chosen["tokenizer-gpt2"] is None
        assert "pad" in chosen["tokenizer-qwen2"]

    def test_an_own_pad_is_kept(self) -> None:
        assert choose_pad_token(tiny_tokenizer()) == "<pad>"


def test_chat_template_class_is_chosen_where_there_is_one() -> None:
    assert isinstance(make_template(tiny_tokenizer(CHATML)), ChatTemplate)
    assert isinstance(make_template(tiny_tokenizer()), PlainTranscript)
    assert isinstance(make_template(tiny_tokenizer(CHATML), "plain"), PlainTranscript)
