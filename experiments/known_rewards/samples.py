"""What the samples of the study are like: how its rewards pull against each other, and endings side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rewards


def tension(study: Path, seed: str, parts: Sequence[str]) -> list[str]:
    """Return the correlations of the rewards over the samples of the untouched model."""
    rows = (study / f"drawn-{seed}" / "drawn.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(one)["completion"] for one in rows]
    kept = [text for text in texts if text.strip()]
    found = np.corrcoef([[getattr(rewards, part)(text) for text in kept] for part in parts])
    lines = [f"| {part} | " + " | ".join(f"{v:.2f}" for v in found[i]) + " |" for i, part in enumerate(parts)]
    return [f"| {len(kept)} endings | " + " | ".join(parts) + " |", "|---|" + "---|" * len(parts), *lines]


def endings(study: Path, seed: str, names: Mapping[str, str], count: int = 2) -> list[str]:
    """Return the first endings of the first prompts by every model at temperature 1."""
    measured = study / f"measured-{seed}"
    files = json.loads((measured / "evaluation.json").read_text(encoding="utf-8"))["completions"]
    shown = {arm: read_endings(measured / levels["1.0"], count) for arm, levels in files.items()}
    lines = []
    for place in range(count):
        asked = shown["base"][place][0]
        lines += ["", f"*… {asked[-160:]}*".replace("\n", " "), "", "| | ending |", "|---|---|"]
        lines += [f"| {names[arm]} | {found[place][1]} |" for arm, found in shown.items()]
    return lines


def read_endings(path: Path, count: int) -> list[tuple[str, str]]:
    """Return the first response to each of the first prompts."""
    found: dict[str, str] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        one = json.loads(text)
        asked = one["prompt"] if isinstance(one["prompt"], str) else one["prompt"][-1]["content"]
        found.setdefault(asked, " ".join(one["completion"].split()).replace("|", "/"))
        if len(found) == count:
            break
    return list(found.items())
