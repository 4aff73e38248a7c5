"""Whole dialogues as the tokenizer's own chat template renders them: what models of others are given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError

from align.records import Message


def special_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Return a pattern of the tokenizer's special tokens; it matches nothing where there are none."""
    texts = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


def rendered_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Return the ids of a dialogue, none where the template refuses it.

    Nor are there any for a special token typed in the text, which would be read as the template's own.
    """
    if any(special_tokens(tokenizer).search(m.content) for m in messages):
        return []
    turns = [{"role": m.role, "content": m.content} for m in messages]
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False)
    except (TemplateError, ValueError, TypeError, KeyError):
        return []
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids
