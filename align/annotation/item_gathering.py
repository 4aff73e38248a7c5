"""Items from files of completions: joined by prompt, with every row that is left out counted and told."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from align.annotation.items import LETTERS, AnnotationItem, Task
from align.data.preference_file import PreferenceFile
from align.data.row_validation import prompt_id, unreadable
from align.data.source import Report
from align.errors import ConfigError
from align.records import Example, Message


class Candidates(NamedTuple):
    """A prompt and all its responses."""

    messages: tuple[Message, ...]
    responses: tuple[str, ...]
    names: tuple[str, ...]


class GatheredItems(NamedTuple):
    """Items in the order in which raters meet them, and what became of the rows."""

    items: list[AnnotationItem]
    notes: list[str]


def gather(
    completions: Mapping[str, str] | str, task: Task, *, limit: int | None = None, seed: int = 0
) -> GatheredItems:
    """Read the files and make items of them.

    Args:
        completions: Files with one response per prompt by the names of their models, or one file with several
            responses per prompt.
        task: Every two responses of a prompt, or all of them at once.
        limit: Items at most, drawn by the seed.
        seed: Of the order of items, which all raters share, so that they meet the same ones first.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, got {limit}")
    notes: list[str] = []
    found = _lists(completions, notes) if isinstance(completions, str) else _joined(completions, notes)
    items = [item for candidates in found for item in _items(candidates, task)]
    random.Random(seed).shuffle(items)
    items = items[:limit]
    if not items:
        need = "two responses" if task == "pairs" else "three responses, or fewer than 27,"
        raise ConfigError(f"completions: no prompt has {need} that can be shown ({'; '.join(notes)})")
    empty = sum(not text.strip() for item in items for text in item.responses)
    same = sum(not item.asked for item in items)
    if empty:
        notes.append(f"{empty} empty responses are shown as empty; export leaves their pairs out")
    if same:
        notes.append(f"{same} items with the same text on all sides are not asked and count as ties")
    return GatheredItems(items, notes)


def _joined(files: Mapping[str, str], notes: list[str]) -> list[Candidates]:
    """Return the prompts that every file answers, in the order of the first."""
    if len(files) < 2:
        raise ConfigError(
            f"completions names {', '.join(files) or 'no file'}: name two or more (--completions.a FILE "
            "--completions.b FILE), or give one file with several responses per prompt (--completions FILE)"
        )
    read = {name: _single(name, path, notes) for name, path in files.items()}
    first, *others = read.values()
    shared = [key for key in first if all(key in other for other in others)]
    for name, answers in read.items():
        missing = len({key for other in read.values() for key in other} - set(answers))
        if missing:
            notes.append(f"{missing} prompts have no response of {name}: left out")
    return [
        Candidates(first[key][0], tuple(answers[key][1] for answers in read.values()), tuple(read)) for key in shared
    ]


def _single(name: str, path: str, notes: list[str]) -> dict[str, tuple[tuple[Message, ...], str]]:
    """Return the response to each prompt; a prompt that stands twice keeps its first response."""
    found: dict[str, tuple[tuple[Message, ...], str]] = {}
    report = Report()
    for example in _read(path, report):
        if len(example.responses) > 1:
            raise ConfigError(
                f"completions.{name}: {example.id} of {path} has {len(example.responses)} responses, a file given by "
                "name holds one per prompt: give such a file alone, as --completions FILE"
            )
        key = prompt_id(example.messages)
        if not example.responses:
            report.drop("without a response", example.id)
        elif key in found:
            report.drop("with a prompt that stands twice", example.id)
        else:
            found[key] = (example.messages, example.responses[0])
    notes.append(_told(name, report, len(found)))
    return found


def _lists(path: str, notes: list[str]) -> list[Candidates]:
    found: dict[tuple[str, tuple[str, ...]], Candidates] = {}
    report = Report()
    for example in _read(path, report):
        key = (prompt_id(example.messages), example.responses)
        names = example.origins or tuple(f"response {i + 1}" for i in range(len(example.responses)))
        if len(example.responses) < 2:
            report.drop("with fewer than two responses", example.id)
        elif key in found:
            report.drop("that stand twice", example.id)
        else:
            found[key] = Candidates(example.messages, example.responses, names)
    notes.append(_told(path, report, len(found)))
    return list(found.values())


def _read(path: str, report: Report) -> Iterator[Example]:
    """Yield the examples whose responses can be sent to a browser as they are."""
    for example in PreferenceFile(path).read("train", report):
        fault = next((f for text in example.responses if (f := unreadable(text))), None)
        if fault:
            report.drop(f"with a {fault}", example.id)
        else:
            yield example


def _told(name: str, report: Report, kept: int) -> str:
    reasons: Counter[str] = report.dropped
    dropped = ", ".join(f"{count} {reason} ({', '.join(report.ids[reason][:3])})" for reason, count in reasons.items())
    return f"{name}: {kept} prompts of {report.read} rows" + (f", left out {dropped}" if dropped else "")


def _items(candidates: Candidates, task: Task) -> Iterator[AnnotationItem]:
    prompt = [message.as_turn() for message in candidates.messages]
    groups: Sequence[tuple[int, ...]] = list(combinations(range(len(candidates.responses)), 2))
    if task == "best_worst":
        groups = [tuple(range(len(candidates.responses)))] if 3 <= len(candidates.responses) <= len(LETTERS) else []
    for group in groups:
        yield AnnotationItem.new(prompt, [candidates.responses[i] for i in group], [candidates.names[i] for i in group])
