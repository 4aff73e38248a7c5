"""Vectors on disk: a safetensors file, and beside it a JSON file that says what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from align.errors import ConfigError, ModelError
from align.files import atomic_file, atomic_write_text
from align.strict_json import json_text

FORMAT = "align-vectors-1"


@dataclass(frozen=True)
class VectorNote:
    """What vectors were taken from."""

    layers: tuple[int, ...]
    """Layer of each row."""
    contrast: str
    """What was subtracted from what."""
    model: str = ""
    """The backbone's path."""
    instructions: dict[str, str] = field(default_factory=dict)
    """Texts of both instructions, where instructions made the difference."""
    fingerprint: str = ""
    """Of the data."""
    examples: int = 0
    """How many examples were seen."""
    measures: dict[str, Any] = field(default_factory=dict)
    """Probe accuracies, consistency, norms."""


def note_path(path: Path) -> Path:
    """Return where the note of a vector file is."""
    return path.with_suffix(".json")


def save_vectors(path: Path, vectors: Mapping[str, Tensor], note: VectorNote) -> None:
    """Write `[layer, hidden]` tensors by name (`mean`, `pca`), as `mean.12` and so on, and their note."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {
        f"{name}.{layer}": row.detach().float().cpu().contiguous()
        for name, rows in vectors.items()
        for layer, row in zip(note.layers, rows, strict=True)
    }
    with atomic_file(path) as part:
        part.write_bytes(save(rows, metadata={"format": FORMAT}))
    atomic_write_text(note_path(path), json_text({"format": FORMAT, **asdict(note)}, indent=2))


def load_vectors(path: Path, name: str = "mean") -> dict[int, Tensor]:
    """Return the vectors of one name by layer. Raises ModelError for a damaged or foreign file."""
    if not path.is_file():
        raise ModelError(f"vectors {path}: no such file; ActivationCollector writes them")
    try:
        with safe_open(path, framework="pt") as file:
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"vectors {path}: damaged safetensors file ({error})") from error
    named = {key.rpartition(".")[0] for key in found}
    if name not in named or not all(key.rpartition(".")[2].isdigit() for key in found):
        raise ConfigError(f"vectors {path}: expected {name}.LAYER, found {', '.join(sorted(found)[:4]) or 'nothing'}")
    return {int(key.rpartition(".")[2]): row for key, row in sorted(found.items()) if key.startswith(f"{name}.")}


def chosen_vectors(path: Path, name: str, layers: Sequence[int] | None) -> dict[int, Tensor]:
    """Return the vectors of some layers, or of all. Raises ConfigError for a layer the file does not have."""
    found = load_vectors(path, name)
    missing = sorted(set(layers or ()) - found.keys())
    if missing:
        raise ConfigError(f"layers: {path} has layers {sorted(found)}, not {missing[0]}")
    return {layer: found[layer] for layer in layers or found}


def load_note(path: Path) -> dict[str, Any]:
    """Return the note beside a vector file, empty where there is none."""
    note = note_path(path)
    found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    return found
