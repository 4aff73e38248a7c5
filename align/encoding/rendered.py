"""Whole dialogues as the tokenizer's own chat template renders them: what models of others are given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from align.encoding.program import Program
from align.encoding.rendering import RowRefused
from align.errors import ModelError
from align.records import Message


def special_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Return a pattern of the tokenizer's special tokens; it matches nothing where there are none."""
    texts = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


class RenderedDialogues:
    """Dialogues as the ids of what the tokenizer's chat template writes, within the limits of all templates."""

    def __init__(self, tokenizer: Any) -> None:
        """Compile the template. Raises ModelError where there is none, or it has a syntax error."""
        if not tokenizer.chat_template:
            raise ModelError("the tokenizer has no chat template: set the reading to 'turn_end' in reward.json")
        self._tokenizer = tokenizer
        self._special = special_tokens(tokenizer)
        self._program = Program(tokenizer.get_chat_template(), "chat template", tokenizer.special_tokens_map)

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a dialogue, none where the template refuses it.

        Nor are there any for a special token typed in the text, which would be read as the template's own.
        """
        if any(self._special.search(m.content) for m in messages):
            return []
        try:
            text = self._program.render(messages, add_generation_prompt=False)
        except RowRefused:
            return []
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def response_length(self, text: str) -> int:
        """Return how many tokens a response has, what its turn adds to it left aside."""
        return len(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def from_left(self, ids: list[int], most: int) -> list[int]:
        """Return ids cut from the left, as RewardBench does; a token that opens every text is kept."""
        opens = int(ids[0] == self._tokenizer.bos_token_id)
        return ids[:opens] + ids[len(ids) - most + opens :]
