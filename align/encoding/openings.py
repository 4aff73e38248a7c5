"""Where a response begins in what a template writes: behind the prompt, or behind the header of an answered turn."""

from __future__ import annotations

import re
from typing import NamedTuple

from align.errors import ModelError

PROBE = "PROBE response"
"""The answer that is looked for."""
THOUGHT = "PROBE thought"
"""What stands for a thought where a template is to write one: it may be empty, or be trimmed."""
CLOSED = re.compile(r"</([\w|]+)>\s*$")
_TAG = re.compile(r"<([\w|]+)>\s*$")
_EMPTY = re.compile(r"<\|?(\w+)\|?>(?:thought)?\s*<(?:/\1|\1\|)>\s*$")
"""An empty thought at the end of a prompt: `<think></think>`, or Gemma 4's `<|channel>thought <channel|>`."""


class Parts(NamedTuple):
    """What a template writes around a response."""

    opener: str
    """The tag that opens a thought at the end of the prompt, none where the prompt opens none."""
    lead: str
    """What comes before the response."""
    suffix: str
    """What comes after it."""


def parts_of(name: str, bare: str, prompt: str, full: str) -> Parts:
    """Return what stands around PROBE in an answered dialogue.

    Args:
        name: What messages call the template.
        bare: A question.
        prompt: The question with the generation prompt.
        full: The question with PROBE as its answer.

    Raises ModelError for a template that leaves the answer out, or writes a dialogue otherwise once it is answered.
    """
    place = full.rfind(PROBE)
    if place < 0:
        raise ModelError(f"{name} leaves out the answer of a dialogue: mend it, or use another template")
    suffix, tag = full[place + len(PROBE) :], _TAG.search(prompt)
    if full.startswith(prompt) and place >= len(prompt):
        lead = full[len(prompt) : place]
        return Parts(prompt[tag.start() :] if tag and f"</{tag.group(1)}>" in lead else "", lead, suffix)
    for thought, opens in ((tag, True), (_EMPTY.search(prompt), False)):
        start = thought.start() if thought else len(prompt)
        if start < len(prompt) and prompt.startswith(bare) and full.startswith(prompt[:start]) and place >= start:
            lead = full[start:place]
            closed = not opens and bool(lead.strip()) and prompt[start:].rstrip().endswith(lead.strip())
            return Parts(prompt[start:] if opens else "", "" if closed else lead, suffix)
    raise ModelError(
        f"{name} rewrites the dialogue: the prompt it renders does not begin prompt and response; "
        "use a template without that, or encoding.template 'plain'"
    )


def holds_empty_thought(prompt: str) -> bool:
    """Tell whether a prompt ends with a thought that is closed."""
    return bool(CLOSED.search(prompt) or _EMPTY.search(prompt))
