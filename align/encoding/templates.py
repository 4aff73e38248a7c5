"""Which template a run writes its prompts with, and the plain transcript that base models read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.encoding.chat_template import ChatTemplate
from align.encoding.program import Program
from align.encoding.rendering import LOST_THOUGHT, Rendered, RowRefused, Template, as_answer, require_eos
from align.errors import ConfigError, ModelError
from align.records import Beside, Message

__all__ = ["ChatTemplate", "PlainTranscript", "Rendered", "RowRefused", "Template", "TemplateName", "make_template"]

TemplateName = str
"""`chat`: the tokenizer's own, `plain`: a Human/Assistant transcript, `auto`: chat where there is one; or a file."""
NAMES = ("auto", "chat", "plain")
PLAIN_ROLES = {"user": "Human", "assistant": "Assistant", "system": "System"}
PLAIN_JINJA = (
    "{BOS}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '\n\nHuman: ' + message['content'] | trim }}"
    "{% elif message['role'] == 'assistant' %}{{ '\n\nAssistant: ' + message['content'] | trim }}"
    "{% else %}{{ '\n\nSystem: ' + message['content'] | trim }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)
"""The plain transcript as a chat template, for model folders."""


class PlainTranscript(Template):
    """The `Human:` / `Assistant:` transcript of HH-RLHF; prompts end without a space, responses begin with one."""

    parses_special = False
    stop = ("\n\nHuman:", "\n\nAssistant:")

    def __init__(self, tokenizer: Any) -> None:
        self.eos_id = require_eos(tokenizer)
        first = tokenizer("a")["input_ids"][:1]
        self.adds_bos = tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
        self.jinja = PLAIN_JINJA.replace("{BOS}", "{{ bos_token }}" if self.adds_bos else "")

    def prompt(self, messages: Sequence[Message], tools: str = "") -> str:
        """Return the turns, each after a blank line, and an open assistant tag."""
        if tools:
            what = "settings" if Beside.of(tools).settings else "tools"
            raise RowRefused(f"a plain transcript has no {what}")
        return "".join(f"\n\n{_role(m)}: {m.content.strip()}" for m in messages) + "\n\nAssistant:"

    def render(self, messages: Sequence[Message], response: Message | str, tools: str = "") -> Rendered:
        """Return prompt and response; see the class."""
        answer = as_answer(response)
        _role(answer)
        lost = any(m.reasoning_content for m in (*messages, answer))
        return Rendered(self.prompt(messages, tools), f" {answer.content.strip()}", (LOST_THOUGHT,) if lost else ())


def make_template(tokenizer: Any, name: TemplateName = "auto", settings: Mapping[str, Any] | None = None) -> Template:
    """Return a template; `settings` is what a chat template is given beside the dialogue."""
    own = tokenizer.get_chat_template() if tokenizer.chat_template else None
    if name == "auto":
        name = "plain" if own is None or _is_plain(own) else "chat"
    if name == "plain":
        if settings:
            raise ConfigError(f"chat_template_kwargs {dict(settings)}: the plain transcript reads none: leave them out")
        return PlainTranscript(tokenizer)
    if name not in NAMES:
        return ChatTemplate(tokenizer, Program(_read(name), name, tokenizer.special_tokens_map, settings or {}))
    if own is None:
        raise ModelError(
            "encoding.template is 'chat' but the tokenizer has no chat template: give encoding.template or "
            "model.backbone.chat_template a Jinja file, or set encoding.template to 'plain'"
        )
    return ChatTemplate(tokenizer, Program(own, "chat template", tokenizer.special_tokens_map, settings or {}))


def _is_plain(source: str) -> bool:
    """Tell whether a chat template is the plain transcript's, in a folder that was trained with it."""
    return source in {PLAIN_JINJA.replace("{BOS}", bos) for bos in ("", "{{ bos_token }}")}


def _read(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"template {path!r}: cannot be read ({error}): expected auto, chat, plain or a Jinja file"
        ) from error


def _role(message: Message) -> str:
    if message.role not in PLAIN_ROLES or message.tool_calls:
        raise RowRefused("a plain transcript has no tool turns")
    return PLAIN_ROLES[message.role]
