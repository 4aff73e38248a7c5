"""Dialogues that were written into one text with the markup of a chat template: read back as turns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from align.data.transcripts import MARKER, parse_transcript, read_context
from align.data.turns import ROLES
from align.records import Message

_START = r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>)?\s*"
"""What a tokenizer puts before a text."""
_SYSTEM = re.compile(r"<<SYS>>\n?(.*?)\n?<</SYS>>\s*", re.DOTALL)
_ROLES = {"[INST]": "user", "[/INST]": "assistant", "Instruction": "user", "Response": "assistant", **ROLES}


@dataclass(frozen=True)
class Markup:
    """How a chat template tells turns apart."""

    begins: str
    """What a text in it begins with before the first turn."""
    turn: str
    """What begins a turn; the group says whose it is."""
    ends: str
    """What may stand behind a turn."""
    joins: str = "(?!)"
    """What stands between two parts of one turn."""
    unended: bool = False
    """A turn of a user has no mark at its end."""

    def turns(self, text: str) -> list[Message]:
        """Return the turns of a text, none where it is not in this markup from its beginning to its end."""
        begun = re.match(_START + self.begins, text)
        before, *pieces = re.split(self.turn, text[begun.end() :] if begun else "")
        told: list[Message] = []
        for who, said in zip(pieces[::2], pieces[1::2], strict=True):
            role, content = _ROLES.get(who) or _ROLES.get(who.lower(), "tool"), self.bare(said)
            if system := _SYSTEM.match(content):
                told.append(Message("system", system.group(1).strip()))
                content = content[system.end() :]
            told.append(Message(role, re.sub(self.joins, "\n\n", content)))
        turns = [m for m in told if m.content or m.role != "system"]
        inside = any(re.search(f"{self.turn}|{self.ends}", m.content) for m in turns)
        return [] if before.strip() or inside or not _alternate(turns) else turns

    def bare(self, text: str) -> str:
        """Return a text without what ends a turn."""
        return re.sub(rf"(?:\s*(?:{self.ends}))+\s*\Z", "", text).strip()


_TASK = r"(?:Below is an instruction that describes a task[^\n]*\n+)?"
_CHAT = r"(?:A chat between [^\n]*?[.!] )?"
MARKUPS = {
    "ChatML": Markup(r"(?=<\|im_start\|>)", r"<\|im_start\|>(\w+)\n", r"<\|im_end\|>|<\|endoftext\|>"),
    "Llama 3": Markup(
        r"(?=<\|start_header_id\|>)",
        r"<\|start_header_id\|>(\w+)<\|end_header_id\|>",
        r"<\|eot_id\|>|<\|end_of_text\|>",
    ),
    "Gemma": Markup(r"(?=<start_of_turn>)", r"<start_of_turn>(\w+)\n", r"<end_of_turn>|<eos>"),
    "Zephyr": Markup(
        r"(?=<\|(?:system|user|prompter|assistant)\|>)",
        r"<\|(system|user|prompter|assistant)\|>",
        r"</s>|<\|end\|>|<\|endoftext\|>",
    ),
    "Llama 2": Markup(r"(?=\[INST\])", r"(?:</s>\s*)?(?:<s>\s*)?(\[/?INST\])", r"</s>"),
    "SteerLM": Markup(
        r"(?=<extra_id_[01]>)",
        r"<extra_id_[01]>(System|User|Assistant)\n",
        r"<extra_id_1>\Z|<extra_id_2>[^\n]*",
        unended=True,
    ),
    "Guanaco": Markup(r"(?=### (?:System|Human|User):)", r"### (System|Human|User|Assistant): ?", r"</s>"),
    "Alpaca": Markup(
        _TASK + r"(?=### Instruction:)",
        r"(?:^|\n)### (Instruction|Response): ?",
        r"</s>",
        joins=r"\s*\n### Input: ?\s*",
    ),
    "Vicuna": Markup(_CHAT + r"(?=USER: )", r"(?:^|\s|</s>)(USER|ASSISTANT):(?:\s|$)", r"</s>"),
    "plain speakers": Markup(
        r"(?=(?:System|User): )", r"(?:^|\n)(System|User|Assistant):(?:\s|\Z)", r"</s>|<\|endoftext\|>"
    ),
    "Open Assistant, pairs": Markup(r"(?=prompter: )", r"(?:^|\n)(prompter|assistant): ?", r"(?!)", unended=True),
}
"""By the program or model that is known for it. What begins a text in one begins none in another."""
BEGINS = re.compile(_START + "(?:" + "|".join(markup.begins for markup in MARKUPS.values()) + ")")
"""How a text in any of them begins."""
_OPENED = "<extra_id_1>Assistant\n"
"""What follows a first question in HelpSteer2's prompts, which stands there without markup."""


class Marked(NamedTuple):
    """A text that was read as turns, and the markup it was in."""

    markup: Markup
    turns: list[Message]


def marked(text: str) -> Marked | None:
    """Return the turns of a text in the markup of a chat template, None for any other."""
    if not BEGINS.match(text):
        if _OPENED not in text:
            return None
        text = f"<extra_id_1>User\n{text}"
    read = ((markup, markup.turns(text)) for markup in MARKUPS.values())
    return next((Marked(markup, turns) for markup, turns in read if turns), None)


def is_markup(text: str) -> bool:
    """Tell whether a text is read otherwise than as it stands where a prompt or a dialogue is expected."""
    return bool(MARKER.match(text) or BEGINS.match(text) or _OPENED in text)


def prompt_turns(text: str) -> list[Message]:
    """Return the turns of a prompt: a plain text, a transcript, or one with the markup of a chat template."""
    found = marked_prompt(text)
    return found.turns if found else read_context(text)


def answer_to(prompt: object, text: str) -> str:
    """Return an answer without what the markup of its prompt puts around it."""
    if not isinstance(prompt, str):
        return text
    if MARKER.match(prompt):
        return text.strip()
    found = marked_prompt(prompt)
    return found.markup.bare(text) if found else text


def whole_dialogue(text: str) -> list[Message]:
    """Return the turns of a dialogue that ends with the assistant's, none for any other text."""
    if MARKER.match(text):
        turns = parse_transcript(text)
    else:
        found = marked(text)
        turns = found.turns if found else []
    return turns if turns and _alternate(turns) and turns[-1].role == "assistant" and turns[-1].content else []


def marked_prompt(text: str) -> Marked | None:
    """Return the turns of a prompt, which must end with an open turn of the assistant or a closed one of the user."""
    found = marked(text)
    if found is None:
        return None
    opened = found.turns[-1] == Message("assistant", "")
    turns = found.turns[:-1] if opened else found.turns
    ended = opened or found.markup.unended or found.markup.bare(text) != text.strip()
    return found._replace(turns=turns) if ended and turns[-1].role == "user" else None


def _alternate(turns: Sequence[Message]) -> bool:
    """Tell whether users and assistants speak in turn, behind a system text or none; only the last may say nothing."""
    spoken = turns[1:] if turns and turns[0].role == "system" else turns
    if any(m.role != ("user", "assistant")[n % 2] for n, m in enumerate(spoken)):
        return False
    return bool(spoken) and all(m.content or (m is spoken[-1] and m.role == "assistant") for m in spoken)
