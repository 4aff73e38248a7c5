"""A tokenizer's chat template, or one from a file: what it writes, and where the assistant begins and ends."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from align.encoding.openings import CLOSED, THOUGHT, holds_empty_thought, parts_of
from align.encoding.probed_template import QUESTION, behind_answer, probe
from align.encoding.program import Program
from align.encoding.rendering import LOST_THOUGHT, Rendered, RowRefused, Template, as_answer, require_eos
from align.encoding.said import Marks, thought_of
from align.encoding.settled import SettledTemplates
from align.encoding.written import check_calls, check_written
from align.errors import ModelError
from align.records import Beside, Message

EMPTY_THOUGHT = "given an empty thought, since the prompt opens one"
_TOOLS = json.dumps([{"type": "function", "function": {"name": "probe", "description": "", "parameters": {}}}])


class ChatTemplate(Template):
    """A chat template. What it writes after a response becomes the one token that ends a turn.

    A prompt is what generation goes on from, and a response what the template writes behind it. Where a template
    writes a dialogue otherwise once it is answered (it opens a thought in the generation prompt, or puts the system
    text into the last user turn), the response is what stands behind the turn's header, and the prompt stays.
    """

    parses_special = True
    adds_bos = False

    def __init__(self, tokenizer: Any, program: Program) -> None:
        self._tokenizer = tokenizer
        try:
            self._program, bare, prompt, full, self.told = probe(program)
        except RowRefused as refusal:
            raise ModelError(f"{program.name} cannot render a user and an assistant turn: {refusal}") from refusal
        with suppress(RowRefused):  # whether a system turn or tools bring a date is for the fingerprint
            self._program.render([Message("system", "PROBE"), *QUESTION], _TOOLS, add_generation_prompt=True)
        self._asked: tuple[tuple[Message, ...], str] | None = None
        self._prompt = ""
        self._settled = SettledTemplates[ChatTemplate]()
        self._opener, self._lead, self._suffix = parts_of(program.name, bare, prompt, full)
        self.jinja = self._program.source
        marks = Marks.of(self._program, QUESTION, prompt, self._lead)
        self._marks = replace(
            marks,
            closes=marks.closes or self._opener.strip().replace("<", "</"),
            inside=marks.inside or bool(self._opener and not full.startswith(prompt)),  # `_after_thought` finds those
        )
        ends = self._specials(self._suffix.strip()) or self._next_turn()
        self.eos_id = ends[0] if ends else require_eos(tokenizer)
        self.told = (*self.told, *self._tell(prompt))
        self.fingerprint = repr((self.jinja, sorted(self._program.dates.items())))

    def _tell(self, prompt: str) -> list[str]:
        told = []
        if self._opener:
            told.append(f"the prompt ends with {self._opener!r}: the thought and its end are scored, an empty one too")
        elif self._lead.strip():
            hint = "; chat_template_kwargs.enable_thinking false puts an empty thought into the prompt"
            known = "enable_thinking" in self._program.source
            told.append(f"it writes {self._lead!r} before a response, which is scored{hint if known else ''}")
        elif holds_empty_thought(prompt):
            told.append("the prompt holds an empty thought: responses are trained and sampled without one")
        end = self._suffix.strip()
        if not end and self.eos_id in self._next_turn():
            token = self._tokenizer.convert_ids_to_tokens(self.eos_id)
            told.append(f"it writes no end of an answer: {token!r} ends it, with which it begins the next turn")
        if end and not self._specials(end):
            told.append(f"it ends a turn with {end!r}, which is no special token here: the tokenizer's EOS ends it")
        if self._program.dates:
            dates = ", ".join(self._program.dates.values())
            told.append(f"it writes today's date ({dates}): on another day prompts differ and are encoded again")
        return told

    def _next_turn(self) -> list[int]:
        """Return the special token that begins a user's turn, of a template that writes no end of an answer (GLM)."""
        behind = "" if self._suffix.strip() else behind_answer(self._program).lstrip()
        first = self._tokenizer(behind, add_special_tokens=False)["input_ids"][:1] if behind else []
        return [i for i in self._specials(behind)[:1] if [i] == first]

    def _own(self, beside: str) -> tuple[ChatTemplate, str]:
        """Return the template with a row's settings, compiled and probed once for all rows that have them."""
        tools, settings = Beside.of(beside)
        if not settings:
            return self, tools
        make = functools.partial(_settled, self._tokenizer, self._program, settings)
        return self._settled.of(settings, make, self.eos_id), tools

    def said(self, ids: Sequence[int], text: str) -> str:
        """Return what a sampled response says; see Template."""
        return self._marks.said(self._tokenizer, ids, text)

    def _apart(self, message: Message) -> Message:
        """Return a turn whose thought stands apart from its content, for a template that does not find it there."""
        if self._marks.inside or message.role != "assistant" or "</think>" not in message.content:
            return message
        thought, text = thought_of(message._replace(reasoning_content=""))
        return message._replace(content=text, reasoning_content=message.reasoning_content or thought)

    def prompt(self, messages: Sequence[Message], tools: str = "") -> str:
        """Return the rendered messages and the generation prompt; that of the last ones is kept for other answers."""
        own, tools = self._own(tools)
        if own is not self:
            return own.prompt(messages, tools)
        asked = tuple(messages), tools
        if asked != self._asked:
            self._prompt, self._asked = self._prompted(messages, tools), asked
        return self._prompt

    def _prompted(self, messages: Sequence[Message], tools: str = "") -> str:
        messages = [self._apart(message) for message in messages]
        text = self._program.render(messages, tools, add_generation_prompt=True)
        check_calls(messages, lambda turns: self._program.render(turns, tools, add_generation_prompt=True))
        for message in messages:
            check_written(message, text)
        if tools and text == self._program.render(messages, add_generation_prompt=True):
            raise RowRefused("chat template leaves out the tools")
        return text

    def render(self, messages: Sequence[Message], response: Message | str, tools: str = "") -> Rendered:
        """Return prompt and response; the response ends before whatever the template adds to close the turn."""
        own, tools = self._own(tools)
        if own is not self:
            return own.render(messages, response, tools)
        prompt = self.prompt(messages, tools)
        *messages, answer = (self._apart(message) for message in (*messages, as_answer(response)))
        full = self._program.render([*messages, answer], tools, add_generation_prompt=False)
        if not full.endswith(self._suffix):
            raise RowRefused("chat template rewrites the dialogue")
        body = full[: len(full) - len(self._suffix)]
        if self._opener and prompt.endswith(self._opener) and not body.startswith(prompt):
            text = self._after_thought(messages, tools, prompt, body, answer)
        else:
            text = self._behind(prompt, body, answer)
        if answer.tool_calls:
            check_calls(
                [*messages, answer], lambda turns: self._program.render(turns, tools, add_generation_prompt=False)
            )
        thought, _ = thought_of(answer)
        kept = not thought or "".join(thought.split()) in "".join(text.split())
        empty = self._opener and not thought
        return Rendered(prompt, text, (EMPTY_THOUGHT,) if empty else () if kept else (LOST_THOUGHT,))

    def _behind(self, prompt: str, body: str, answer: Message) -> str:
        """Return what stands behind the prompt in an answered dialogue."""
        if body.startswith(prompt):
            return body[len(prompt) :]
        return self._told_apart(body, thought_of(answer)[1] if CLOSED.search(prompt) else answer.content)

    def _after_thought(self, messages: Sequence[Message], tools: str, prompt: str, body: str, answer: Message) -> str:
        """Return the thought that the prompt has opened, its end, and the answer, as the template writes them.

        One that writes no thought (it cuts off what stands before `</think>`) has it as DeepSeek-R1 writes it.
        """
        thought, text = thought_of(answer)
        shown = answer._replace(content=text, reasoning_content=THOUGHT)
        with suppress(RowRefused):
            full = self._program.render([*messages, shown], tools, add_generation_prompt=False)
            if full.startswith(prompt + THOUGHT) and full.endswith(self._suffix):
                return thought + full[len(prompt + THOUGHT) : len(full) - len(self._suffix)]
        closing = self._opener.strip().replace("<", "</")
        head = prompt[: len(prompt) - len(self._opener)]
        written = body[len(head) :] if body.startswith(head) else self._told_apart(body, text)
        written = written.rpartition(closing)[2].lstrip("\n")
        return f"{thought}\n{closing}\n\n{written}"

    def _told_apart(self, body: str, text: str) -> str:
        """Return the response at the end of a dialogue whose beginning the template writes otherwise."""
        for written in (text, text.strip(), text.lstrip("\n")):
            if written and body.endswith(self._lead + written):
                return self._lead + written
        raise RowRefused("chat template rewrites the dialogue")

    def regions(self, messages: Sequence[Message], tools: str, text: str) -> list[tuple[int, int]] | None:
        """Return the `{% generation %}` blocks of a whole dialogue; see Template."""
        own, tools = self._own(tools)
        if not own._program.marks:
            return None
        written, found = own._program.regions([own._apart(message) for message in messages], tools)
        return found if written.startswith(text) else None

    def _specials(self, text: str) -> list[int]:
        """Return the special tokens of a text."""
        tokens = self._tokenizer.added_tokens_decoder.items()
        special = set(self._tokenizer.all_special_ids) | {i for i, token in tokens if token.special}
        return [int(i) for i in self._tokenizer(text, add_special_tokens=False)["input_ids"] if i in special]


def _settled(tokenizer: Any, program: Program, settings: Mapping[str, Any]) -> ChatTemplate:
    return ChatTemplate(tokenizer, program.given(settings))
