"""The card of a data file that is shared: what it holds, where it comes from, and what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Our splits by the hub's names."""


def place_in_repository(split: str, out: Path) -> str:
    """Return where the file lies in a repository of data."""
    return f"data/{SPLITS.get(split, split)}{out.suffix}"


def data_card(source: str, rows: Sequence[dict[str, Any]], about: Iterable[str], *, split: str, out: Path) -> str:
    """Return Markdown with a Hugging Face header, so that `load_dataset` finds the split."""
    files = [{"split": SPLITS.get(split, split), "path": place_in_repository(split, out)}]
    header = {"configs": [{"config_name": "default", "data_files": files}], "tags": ["align"]}
    name = Path(source).name if Path(source).exists() else source
    said = "\n".join(f"- {line}" for line in about)
    return f"""---
{yaml.safe_dump(header, sort_keys=False).strip()}
---

# {name}

{len(rows)} rows with the columns {", ".join(rows[0])}, written by align {version("align-lm")}.

{said}
"""
