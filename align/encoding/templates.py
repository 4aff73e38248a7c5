"""From messages to text: the tokenizer's chat template, or the plain transcript that base models read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from jinja2.exceptions import TemplateError

from align.errors import ModelError, shorten
from align.records import Message

TemplateName = Literal["auto", "chat", "plain"]
PLAIN_ROLES = {"user": "Human", "assistant": "Assistant", "system": "System"}
PLAIN_JINJA = (
    "{BOS}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '\n\nHuman: ' + message['content'] | trim }}"
    "{% elif message['role'] == 'assistant' %}{{ '\n\nAssistant: ' + message['content'] | trim }}"
    "{% else %}{{ '\n\nSystem: ' + message['content'] | trim }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)
"""The plain transcript as a chat template, for model folders."""
PROBE = "PROBE response"


class Rendered(NamedTuple):
    """A prompt up to where the assistant begins, and the response text that follows it, both ready to tokenise."""

    prompt: str
    response: str


class RowRefused(Exception):
    """A template cannot render this row; the row is dropped and the reason counted."""


class Template(ABC):
    """How messages become text, and which token ends a response."""

    eos_id: int
    jinja: str
    """A chat template that renders the same prompts."""
    adds_bos: bool
    """Whether the encoder puts a BOS in front (a chat template writes its own)."""
    parses_special: bool
    """Whether special tokens are written into the text by the template."""
    stop: tuple[str, ...] = ()
    """Texts that end a sampled response, beside `eos_id`."""

    @abstractmethod
    def prompt(self, messages: Sequence[Message]) -> str:
        """Return the text up to where the assistant begins to answer."""

    @abstractmethod
    def render(self, messages: Sequence[Message], response: str) -> Rendered:
        """Return prompt and response text. Raises RowRefused where the template cannot."""


class PlainTranscript(Template):
    """The `Human:` / `Assistant:` transcript of HH-RLHF; prompts end without a space, responses begin with one."""

    parses_special = False
    stop = ("\n\nHuman:", "\n\nAssistant:")

    def __init__(self, tokenizer: Any) -> None:
        self.eos_id = _require_eos(tokenizer)
        first = tokenizer("a")["input_ids"][:1]
        self.adds_bos = tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
        self.jinja = PLAIN_JINJA.replace("{BOS}", "{{ bos_token }}" if self.adds_bos else "")

    def prompt(self, messages: Sequence[Message]) -> str:
        """Return the turns, each after a blank line, and an open assistant tag."""
        turns = [f"\n\n{PLAIN_ROLES[m.role]}: {m.content.strip()}" for m in messages]
        return "".join(turns) + "\n\nAssistant:"

    def render(self, messages: Sequence[Message], response: str) -> Rendered:
        """Return prompt and response; see the class."""
        return Rendered(self.prompt(messages), f" {response.strip()}")


class ChatTemplate(Template):
    """The tokenizer's own chat template. What it writes after a response becomes the one token that ends a turn."""

    parses_special = True
    adds_bos = False

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.chat_template:
            raise ModelError(
                "encoding.template is 'chat' but the tokenizer has no chat template: set model.backbone.chat_template "
                "to a Jinja file, or encoding.template to 'plain'"
            )
        self._tokenizer = tokenizer
        self.jinja = tokenizer.chat_template
        probe = [Message("user", "PROBE question")]
        try:
            prompt, full = self.prompt(probe), self._apply([*probe, Message("assistant", PROBE)])
        except RowRefused as refusal:
            raise ModelError(f"chat template cannot render a user and an assistant turn: {refusal}") from refusal
        if not full.startswith(prompt) or PROBE not in full[len(prompt) :]:
            raise ModelError(
                "chat template rewrites the dialogue: the prompt it renders does not begin prompt and response; "
                "use a template without that, or encoding.template 'plain'"
            )
        self._suffix = full[full.rindex(PROBE) + len(PROBE) :]
        self.eos_id = self._turn_end(tokenizer)

    def prompt(self, messages: Sequence[Message]) -> str:
        """Return the rendered messages and the generation prompt."""
        return self._apply(messages, add_generation_prompt=True)

    def render(self, messages: Sequence[Message], response: str) -> Rendered:
        """Return prompt and response; the response ends before whatever the template adds to close the turn."""
        prompt = self.prompt(messages)
        full = self._apply([*messages, Message("assistant", response)])
        if not full.startswith(prompt) or not full.endswith(self._suffix):
            raise RowRefused("chat template rewrites the dialogue")
        return Rendered(prompt, full[len(prompt) : len(full) - len(self._suffix)])

    def _apply(self, messages: Sequence[Message], **options: bool) -> str:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            text: str = self._tokenizer.apply_chat_template(turns, tokenize=False, **options)
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            raise RowRefused(f"chat template refused: {shorten(error)}") from error
        return text

    def _turn_end(self, tokenizer: Any) -> int:
        """Return the special token that opens the suffix, or the tokenizer's EOS where the template writes none."""
        ids = tokenizer(self._suffix.lstrip(), add_special_tokens=False)["input_ids"] if self._suffix.strip() else []
        special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
        found = [i for i in ids if i in special]
        return int(found[0]) if found else _require_eos(tokenizer)


def make_template(tokenizer: Any, name: TemplateName = "auto") -> Template:
    """Return the named template; `auto` takes the chat template where the tokenizer has one."""
    if name == "auto":
        name = "chat" if tokenizer.chat_template else "plain"
    return ChatTemplate(tokenizer) if name == "chat" else PlainTranscript(tokenizer)


def _require_eos(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no end-of-sequence token: set eos_token in its tokenizer_config.json")
    return int(tokenizer.eos_token_id)
