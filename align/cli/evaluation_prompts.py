"""The prompts that models are evaluated on, by subset, and what became of the rows of their files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.data.telling import warning
from align.errors import ConfigError
from align.evaluation.completions import EvaluationPrompt


def prompts_of(
    files: Mapping[str, str] | str, limit: int | None, kept: Sequence[str] = ()
) -> tuple[list[EvaluationPrompt], dict[str, Any]]:
    """Return the prompts of each file and what became of its rows; a prompt that stands twice is asked once.

    Args:
        files: A file, or several by subset.
        limit: At most so many of each.
        kept: Columns for reward functions.
    """
    found: dict[Any, EvaluationPrompt] = {}
    notes: dict[str, Any] = {}
    for name, path in ({"": files} if isinstance(files, str) else dict(files)).items():
        source, report = PreferenceFile(path, keep_columns=kept), Report()
        split = next(s for s in ("test", "val", "train") if source.split_names()[s])
        for example in source.read(split, report):
            if example.messages in found:
                report.drop("prompt that stands twice", example.id)
            elif report.kept == limit:
                report.drop("beyond the limit", example.id)
            else:
                found[example.messages] = EvaluationPrompt.of(example, name)
                report.kept += 1
        notes[name or path] = {"read": report.read, "kept": report.kept, "dropped": dict(report.dropped)}
        print(f"prompts {name or path}: {report}")
        if told := warning(report):
            print(f"WARNING prompts {name or path}: {told}", file=sys.stderr)
    if not found:
        raise ConfigError(f"prompts {files}: no prompt is left to evaluate on")
    return list(found.values()), notes
