"""Ends: EOS, stop strings across tokens, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from align.sampling.generation import Completion
from align.sampling.stopping_criteria import StopCriteria
from tests.tiny import tiny_tokenizer

STOP = ("\n\nHuman:", "\n\nAssistant:")


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def first_end(ends: StopCriteria, ids: list[int], limit: int = 1000) -> tuple[int, str | None]:
    """How many tokens a row takes, and why it ends."""
    for count in range(1, len(ids) + 1):
        if reason := ends.reason(ids[:count], limit):
            return count, reason
    return len(ids), None


def test_each_reason() -> None:
    tokenizer = tiny_tokenizer()
    ends = StopCriteria(tokenizer, [1], STOP)
    ids = ids_of(tokenizer, "hello\n\nHuman: more")
    assert first_end(ends, ids) == (13, "stop")  # one token per byte, up to the colon
    assert ends.completion(ids[:13], "stop") == Completion(ids[:13], "hello", "stop")
    assert first_end(ends, [*ids[:5], 1, 40]) == (6, "eos")
    assert ends.completion([*ids[:5], 1], "eos").text == "hello"
    assert first_end(ends, ids, limit=4) == (4, "length")
    assert first_end(StopCriteria(tokenizer, [1]), ids) == (len(ids), None)
    assert first_end(ends, [1]) == (1, "eos")  # a policy that stops at once


@pytest.mark.parametrize("stop", ["é", "日本", "ends here ", "q"])
def test_stops_of_any_kind_end_where_they_are_complete(stop: str) -> None:
    tokenizer = tiny_tokenizer()
    ids = ids_of(tokenizer, f"some text {stop} and more")
    whole = len(ids_of(tokenizer, f"some text {stop}"))
    count, reason = first_end(StopCriteria(tokenizer, [1], [stop]), ids)
    assert reason == "stop"
    assert count in (whole, whole + 1)  # a blank at the end of a stop string may be stripped until text follows


def test_real_tokenizers(shared: Path) -> None:
    """Byte-pair tokens may hold the end of a stop string and what follows."""
    from transformers import AutoTokenizer

    for name in ("tokenizer-gpt2", "tokenizer-qwen2", "stories260K-hf"):
        tokenizer = AutoTokenizer.from_pretrained(shared / name)
        ends = StopCriteria(tokenizer, [tokenizer.eos_token_id], STOP)
        ids = ids_of(tokenizer, "I would say so.\n\nHuman: And then?")
        count, reason = first_end(ends, ids)
        assert reason == "stop", name
        assert ends.completion(ids[:count], "stop").text.strip() == "I would say so.", name


def test_text_of_another_program() -> None:
    tokenizer = tiny_tokenizer()
    ends = StopCriteria(tokenizer, [1], STOP)
    ids = ids_of(tokenizer, "yes")
    assert ends.of_text("yes", "eos") == Completion([*ids, 1], "yes", "eos")
    assert ends.of_text("yes", "length") == Completion(ids, "yes", "length")
    assert ends.of_text("yes\n\nHuman: no", "stop").text == "yes"
