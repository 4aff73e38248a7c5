"""Answers of a model that were written before: AlpacaEval's files, and those of `align generate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from align.errors import DataError, shorten
from align.evaluation.benchmark_files import json_rows
from align.records import Message

Dialogue = tuple[Message, ...]
TEXTS = ("output", "completion", "response")
"""Columns an answer may stand in."""
ENDINGS = (".json", ".jsonl", ".parquet")
"""Of files that can only be answers."""


class Answers(NamedTuple):
    """The answers of one model, one to each prompt."""

    name: str
    texts: dict[Dialogue, str]
    datasets: dict[Dialogue, str]


def is_answer_file(path: str) -> bool:
    """Return whether a name given for a model is a file of answers and no folder, also where the file is not there."""
    return path.endswith(ENDINGS) or Path(path).is_file()


def read_model_answers(path: Path) -> Answers:
    """Read rows of `instruction` or `prompt` with `output`, `completion` or `response`, as JSON, JSONL or Parquet.

    The model is named by `generator`, else by the file. Raises DataError for a prompt that is answered twice.
    """
    texts: dict[Dialogue, str] = {}
    datasets: dict[Dialogue, str] = {}
    names: Counter[str] = Counter()
    twice: list[Dialogue] = []
    for number, row in enumerate(json_rows(path), 1):
        asked, text = _asked(row), next((row[key] for key in TEXTS if key in row), None)
        if asked is None or not isinstance(text, str):
            raise DataError(
                f"{path}, row {number}: expected 'instruction' or 'prompt' and the answer as a text in "
                f"{', '.join(map(repr, TEXTS))}, found {shorten(repr(row), 80)}"
            )
        if asked in texts:
            twice.append(asked)
        texts[asked], datasets[asked] = text, str(row.get("dataset") or "")
        names[str(row.get("generator") or "")] += 1
    if twice:
        raise DataError(
            f"{path}: {len(twice)} of {len(texts) + len(twice)} rows answer a prompt a second time, the first "
            f"{_quoted(twice[0])}: keep one answer each"
        )
    if len(names) > 1:
        raise DataError(f"{path}: answers of {', '.join(sorted(names))}: expected those of one generator")
    return Answers(next(iter(names)) or Path(path).name.split(".")[0], texts, datasets)


def answers_to(prompts: Sequence[Dialogue], answers: Answers, where: str) -> list[str]:
    """Return the answer to each prompt. Raises DataError, with their number, where some have none."""
    if missing := [prompt for prompt in prompts if prompt not in answers.texts]:
        raise DataError(
            f"{where}: no answer to {len(missing)} of {len(prompts)} prompts, the first {_quoted(missing[0])}: "
            f"its {len(answers.texts)} rows are of other prompts"
        )
    return [answers.texts[prompt] for prompt in prompts]


def refuse_other_prompts(answers: Answers, where: str, baseline: Answers, against: str) -> None:
    """Raise DataError, with their numbers, where two files do not answer the same prompts."""
    lacking = [prompt for prompt in baseline.texts if prompt not in answers.texts]
    further = [prompt for prompt in answers.texts if prompt not in baseline.texts]
    if lacking or further:
        first = lacking or further
        raise DataError(
            f"{where}: its instructions differ from those of {against}: {len(lacking)} of {len(baseline.texts)} have "
            f"no answer, {len(further)} are not in {against}; the first {_quoted(first[0])}"
        )


def _asked(row: dict[str, Any]) -> Dialogue | None:
    found = row.get("instruction", row.get("prompt"))
    if isinstance(found, str):
        return (Message("user", found),)
    turns = found if isinstance(found, list) else []
    if not turns or not all(isinstance(t, dict) and isinstance(t.get("content"), str) and "role" in t for t in turns):
        return None
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


def _quoted(prompt: Iterable[Message]) -> str:
    return repr(shorten([*prompt][-1].content, 60))
