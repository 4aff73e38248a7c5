"""A chat template ready to run: its source with the settings a run gave it, rendered within limits."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.meta import find_undeclared_variables

from align.encoding.jinja import CLOSE, OPEN, TemplateSandbox
from align.encoding.metering import Overrun
from align.encoding.rendering import RowRefused
from align.encoding.skeletons import Shape, Skeletons
from align.errors import ConfigError, ModelError, did_you_mean, shorten
from align.records import Message

MAX_OVERRUNS = 5
"""So many rows may take too long before the template is to blame."""


class Program:
    """Renders dialogues as `apply_chat_template` does. Settings are written into the source, and so into exports."""

    def __init__(self, source: str, name: str, tokens: Mapping[str, str], settings: Mapping[str, Any] = {}) -> None:
        """Prepare a template.

        Args:
            source: The template.
            name: What messages call it.
            tokens: The special tokens by name.
            settings: What the template is given beside the dialogue, such as `enable_thinking`.

        Raises ModelError for a template with a syntax error, ConfigError for a setting the template does not read.
        """
        self.name, self._tokens, self._overruns = name, dict(tokens), 0
        self._now = datetime.now()
        try:
            known = find_undeclared_variables(TemplateSandbox(self._now).parse(source))
        except TemplateError as error:
            line = f", line {line}" if (line := getattr(error, "lineno", None)) else ""
            raise ModelError(f"{name}{line}: syntax error, cannot render: {shorten(error, 120)}") from error
        for setting in settings:
            if setting not in known or setting in _GIVEN:
                raise ConfigError(
                    f"chat_template_kwargs.{setting}: {name} does not read it{did_you_mean(setting, known)}; it reads "
                    f"{', '.join(sorted(known - set(self._tokens) - _GIVEN)) or 'none'}"
                )
        self.source = _with_defaults(source, settings)
        self._skeletons = Skeletons(self.source, self._now)

    def with_generation_prompt(self, header: str) -> Program:
        """Return the template with a header for the answer, where one is asked for."""
        added = f"{{% if add_generation_prompt %}}{{{{ {_literal(header)} }}}}{{% endif %}}"
        return Program(self.source.removesuffix("\n") + added, self.name, self._tokens)

    def with_parts(self) -> Program:
        """Return the template with texts given as the one part of a list, as models of pictures and text take turns."""
        return Program(_IN_PARTS + self.source, self.name, self._tokens)

    def given(self, settings: Mapping[str, Any]) -> Program:
        """Return the template with settings that go before its own. Raises ConfigError for one it does not read."""
        return Program(self.source, self.name, self._tokens, settings)

    @property
    def marks(self) -> bool:
        """Tell whether the template marks what an assistant generates."""
        return "endgeneration" in self.source

    @property
    def dates(self) -> dict[str, str]:
        """Return the dates that were written so far, by their format; they stay those of the start."""
        return self._sandbox.dates

    @cached_property
    def _sandbox(self) -> TemplateSandbox:
        return TemplateSandbox(self._now)

    @cached_property
    def _compiled(self) -> Any:
        return self._sandbox.metered(self.source)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is compiled, which does not travel between processes."""
        return {k: v for k, v in vars(self).items() if k not in ("_sandbox", "_compiled")}

    def render(self, messages: Sequence[Message], tools: str = "", *, add_generation_prompt: bool) -> str:
        """Return the text. Raises RowRefused where the template cannot, ModelError where it never ends."""
        shape = None if tools or self._sandbox.marks else Shape.of(messages, add_generation_prompt)
        if shape is not None and (known := self._skeletons.recall(shape, messages)) is not None:
            return known
        given = {"tools": json.loads(tools) if tools else None, "documents": None, **self._tokens}
        given["add_generation_prompt"] = add_generation_prompt
        text = self._written(messages, given)
        if shape is not None:
            self._skeletons.learn(shape, messages, text, given)
        return text

    def _written(self, messages: Sequence[Message], given: dict[str, Any]) -> str:
        try:
            compiled = self._compiled
            self._sandbox.start()
            return str(compiled.render(messages=[_turn(m) for m in messages], **given))
        except (Overrun, MemoryError) as error:
            self._overruns += 1
            if self._overruns > MAX_OVERRUNS:
                raise ModelError(f"{self.name}: {error or 'out of memory'} for {MAX_OVERRUNS} rows already") from error
            raise RowRefused(f"chat template does not end: {error or 'out of memory'}") from error
        except (TemplateError, ArithmeticError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise RowRefused(f"chat template refused: {shorten(error)}") from error
        except RecursionError as error:
            raise RowRefused("chat template refused: it calls itself without end") from error

    def regions(self, messages: Sequence[Message], tools: str = "") -> tuple[str, list[tuple[int, int]]]:
        """Return the text of a dialogue, and where its generated parts stand in it."""
        if any(mark in m.content for m in messages for mark in (OPEN, CLOSE)):
            raise RowRefused("noncharacter U+FDD0 or U+FDD1 in the text")
        self._sandbox.marks = True
        try:
            text = self.render(messages, tools, add_generation_prompt=False)
        finally:
            self._sandbox.marks = False
        found, start, length = [], 0, 0
        pieces = re.split(f"([{OPEN}{CLOSE}])", text)
        for piece in pieces:
            if piece == OPEN:
                start = length
            elif piece == CLOSE:
                found.append((start, length))
            else:
                length += len(piece)
        return "".join(pieces[::2]), found


_GIVEN = {"messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now", "namespace"}
_IN_PARTS = (
    "{% set in_parts = namespace(turns=[]) %}{% for message in messages %}"
    "{% set turn = dict(message, content=[{'type': 'text', 'text': message['content']}]) %}"
    "{% set in_parts.turns = in_parts.turns + [turn if message['content'] is string else message] %}"
    "{% endfor %}{% set messages = in_parts.turns %}{{ '' }}"
)


def _turn(message: Message) -> dict[str, Any]:
    turn = message._replace(weight=1.0).as_turn()
    return {**turn, "thinking": message.reasoning_content} if message.reasoning_content else turn


def _with_defaults(source: str, settings: Mapping[str, Any]) -> str:
    """Return the template with settings that hold where the caller gives none: any program that opens it follows."""
    lines = [
        f"{{% if {name} is not defined or {name} is none %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}"
        for name, value in sorted(settings.items())
    ]
    added = "".join(lines) + "{{ '' }}" if lines else ""
    return source if source.startswith(added) else added + source


def _literal(value: Any) -> str:
    """Return a JSON value as Jinja writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(str(k))}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
