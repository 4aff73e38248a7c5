"""What a first stage leaves for the second: adapters, and a note that tells whether they are the ones it made."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from align.errors import ConfigError, ModelError
from align.files import file_hash
from align.models.folder_checks import ADAPTER_CONFIG, read_json
from align.models.sizes_only import sizes_only
from align.records import Instructions
from align.transfer import raw_bytes

NOTE = "stage.json"
WEIGHTS = "adapter_model.safetensors"


def write_note(folder: Path, method: str, base: str, names: Sequence[str], instructions: Instructions | None) -> None:
    """Note method, hash of the base's weights, hashes of the adapters (by subfolder, `.` the folder) and the texts."""
    note = {
        "method": method,
        "base_weights": base,
        "adapters": {name: file_hash(folder / name / WEIGHTS) for name in names},
        "instructions": None if instructions is None else asdict(instructions),
    }
    (folder / NOTE).write_text(json.dumps(note, indent=2), encoding="utf-8")


def stage_adapters(path: str | None, names: Sequence[str], method: str) -> dict[str, Path]:
    """Return the adapter folders of a first stage by name. Raises for one that is missing, damaged or given twice.

    Where sizes are counted they need not be there.
    """
    if path is None:
        later = ", which may be one that is not there yet" if sizes_only() else ""
        raise ConfigError(f"model.stage1 is null: {method} needs the model folder of its first stage{later}")
    folders = {name: Path(path).expanduser() / name for name in names}
    if sizes_only():
        return folders
    for folder in folders.values():
        if not (folder / ADAPTER_CONFIG).exists() or not (folder / WEIGHTS).exists():
            raise ModelError(
                f"model.stage1 {path}: no adapter in {folder} ({ADAPTER_CONFIG}, {WEIGHTS} expected): {method} needs "
                f"{' and '.join(str(f) for f in folders.values())}"
            )
    hashes = {name: file_hash(folder / WEIGHTS) for name, folder in folders.items()}
    if len(set(hashes.values())) < len(hashes):
        raise ModelError(f"model.stage1 {path}: {' and '.join(names)} are the same adapter: they do not differ")
    note = read_note(path)
    for name, found in hashes.items():
        if note and note["adapters"].get(name) != found:
            raise ModelError(f"model.stage1 {path}: adapter {name!r} is not the one {NOTE} tells of: train it again")
    return folders


def read_note(path: str) -> dict[str, Any]:
    """Return the note of a stage, empty where there is none."""
    file = Path(path).expanduser() / NOTE
    return read_json(file) if file.exists() else {}


def check_note(path: str, base: str, instructions: Instructions | None) -> None:
    """Compare base weights and instruction texts with those of the first stage. Raises ConfigError naming both."""
    note = read_note(path)
    if not note:
        rank_zero_warn(f"model.stage1 {path}: no {NOTE}, so nobody can tell whether base and instructions are the same")
        return
    if base and note["base_weights"] != base:
        raise ConfigError(f"model.stage1 {path}: trained on another base than backbone.path (their weights differ)")
    then, now = note["instructions"], None if instructions is None else asdict(instructions)
    if then is not None and now is not None and then != now:
        changed = [name for name in now if then.get(name) != now[name]]
        raise ConfigError(
            f"instructions.{changed[0]} was {then.get(changed[0])!r} in the first stage ({path}) and is "
            f"{now[changed[0]]!r} here: the difference vectors would be of other instructions"
        )


def base_hash(model: nn.Module) -> str:
    """Return a hash of the weights beneath all adapters, the same with and without them, and in any precision."""
    digest = hashlib.blake2b(digest_size=16)
    weights = {
        re.sub(r"(\.base_layer)+\.", ".", name.removeprefix("base_model.model.")): tensor
        for name, tensor in model.state_dict().items()
        if "lora_" not in name
    }
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        if not tensor.is_meta:  # sizes are counted without values
            digest.update(raw_bytes(tensor.detach().bfloat16() if tensor.is_floating_point() else tensor))
    return digest.hexdigest()
