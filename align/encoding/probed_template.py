"""What a chat template makes of a question and an answer, and what is added to one that needs more to write them."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from align.encoding.openings import PROBE
from align.encoding.program import Program
from align.encoding.rendering import RowRefused
from align.encoding.written import check_written
from align.records import Message

QUESTION = [Message("user", "PROBE question")]


class Probed(NamedTuple):
    """A template that writes both, and what it writes."""

    program: Program
    bare: str
    """The question."""
    prompt: str
    """The question with the generation prompt."""
    full: str
    """The question with PROBE as its answer."""
    told: tuple[str, ...]
    """What was added, for the user."""


def probe(program: Program) -> Probed:
    """Return a template with what it lacks: texts as parts of a turn, a header before an answer.

    Raises RowRefused for one that does not write a question.
    """
    found = _as_it_takes_them(program)
    if (
        found.bare != found.prompt
        or not found.full.startswith(found.bare)
        or PROBE not in found.full[len(found.bare) :]
    ):
        return found
    header = found.full[len(found.bare) : found.full.rindex(PROBE)].rstrip(" ")
    if not header.strip():
        return found
    told = f"it has no generation prompt: {header!r} is added to it, and to the exported folder"
    return _probe(found.program.with_generation_prompt(header), *found.told, told)


def behind_answer(program: Program) -> str:
    """Return what a template writes behind an answer that another question follows, nothing where it cannot."""
    dialogue = [*QUESTION, Message("assistant", PROBE), *QUESTION]
    try:
        return program.render(dialogue, add_generation_prompt=False).rpartition(PROBE)[2]
    except RowRefused:
        return ""


def _probe(program: Program, *told: str) -> Probed:
    bare = program.render(QUESTION, add_generation_prompt=False)
    prompt = program.render(QUESTION, add_generation_prompt=True)
    check_written(QUESTION[0], prompt)
    answered = [*QUESTION, Message("assistant", PROBE)]
    return Probed(program, bare, prompt, program.render(answered, add_generation_prompt=False), told)


def _as_it_takes_them(program: Program) -> Probed:
    """Return what a template makes of plain texts, or of parts where it takes those alone (SmolVLM, LLaVA)."""
    plain = refused = None
    try:
        plain = _probe(program)
        if PROBE in plain.full:
            return plain
    except RowRefused as refusal:
        refused = refusal
    with suppress(RowRefused):
        parts = _probe(
            program.with_parts(),
            "it takes a turn as a list of parts: it is made to take plain texts too, here and in the exported folder",
        )
        if PROBE in parts.full and not any("'text'" in text for text in parts[1:4]):  # of a list that it prints
            return parts
    if plain is None:
        assert refused is not None
        raise refused
    return plain
