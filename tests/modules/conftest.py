"""Data for tests of preference methods."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import WORDS


@pytest.fixture
def scored_file(tmp_path: Path) -> Path:
    """Twenty prompts with two scored responses each, which serve as pairs, labelled and scored rows."""
    rows = [
        {"prompt": f"{a} {b}?", "completions": [f"yes {a}", f"no {b} {a}"], "scores": [0.75, 0.25]}
        for a in WORDS[:5] for b in WORDS[5:9]
    ]  # fmt: skip
    path = tmp_path / "scored.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path
