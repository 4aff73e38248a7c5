"""Examples that can be used, each once and under an id of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from align.data.drop_report import Report
from align.data.row_validation import unreadable
from align.data.suspicions import Suspicions
from align.records import Example


def sound(examples: Iterable[Example], report: Report) -> Iterator[Example]:
    """Yield the examples that can be used; the others are counted in the report."""
    seen: dict[str, int] = {}
    renamed, suspicions = 0, Suspicions()
    for example in examples:
        content = hash(example)
        known = example.id in seen
        if known and seen[example.id] == content:
            report.drop("duplicate row", example.id)
            continue
        seen.setdefault(example.id, content)
        if fault := _fault(example):
            report.drop(fault, example.id, odd=True)
            continue
        suspicions.look(example)
        if known:
            renamed += 1
            yield _renamed(example, seen)
        else:
            yield example
    if renamed:
        report.notes.append(f"{renamed} ids stood for another row before and were made unique")
    report.warnings += suspicions.told()


def _fault(example: Example) -> str | None:
    """Return why a prompt cannot be read, or None."""
    messages = [*example.messages, *(m for context in example.contexts for m in context)]
    return next((f for m in messages if (f := unreadable(m.content + m.reasoning_content))), None)


def _renamed(example: Example, seen: dict[str, int]) -> Example:
    """Return the example under an id that no other has."""
    number = 2
    while f"{example.id}~{number}" in seen:
        number += 1
    renamed = replace(example, id=f"{example.id}~{number}")
    seen[renamed.id] = hash(renamed)
    return renamed
