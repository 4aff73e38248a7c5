"""Checks on a model folder before anything is loaded from it: one clear line instead of a library's traceback."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from align.errors import ModelError, shorten

ADAPTER_CONFIG = "adapter_config.json"
BASE_REPORT = "base_report.json"
"""Beside the base model of the synthetic world: what it can do, and under `faults` what it falls short of."""
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
"""Endings of files that may run code when they are read: none of them is."""
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def local_folder(path: str) -> Path | None:
    """Return the folder a path names, or None for a hub id. Raises ModelError for a path that is neither."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(f"backbone path {path}: a file, expected a model folder or a hub id")
    looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1 or path.endswith("/")
    if looks_local or (path.count("/") == 1 and folder.parent.is_dir()):
        raise ModelError(f"backbone path {path}: no such folder")
    return None


def base_of(folder: Path) -> str:
    """Return the model an adapter belongs to. Raises ModelError where its configuration does not say."""
    base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip():
        raise ModelError(
            f"adapter {folder}: base_model_name_or_path is {base!r}, expected the model it belongs to: write its "
            f"folder or hub id there ({ADAPTER_CONFIG})"
        )
    try:
        local_folder(base)
    except ModelError as error:
        raise ModelError(
            f"adapter {folder}: its base {base} is no model folder and no hub id: write it there"
        ) from error
    return base


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object. Raises ModelError naming the file."""
    check_not_placeholder(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON ({shorten(error, 160)})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def folder_hash(folder: Path) -> str:
    """Return a hash of the files that decide what a model folder computes: weights, configuration, tokenizer."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json", ".jinja", ".model")):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while part := file.read(2**24):
                digest.update(part)
    return digest.hexdigest()


def check_not_placeholder(path: Path) -> None:
    """Raise ModelError for a file that is empty, a Git LFS pointer or a saved web page."""
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
    if not head:
        raise ModelError(f"{path}: the file is empty: fetch it again")
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path}: a Git LFS pointer, not the file itself: run `git lfs pull`")
    if head.startswith((b"<!doctype", b"<html")):
        raise ModelError(f"{path}: a web page, not the file itself: fetch it again")


def check_weights(folder: Path) -> None:
    """Raise ModelError unless the folder holds whole safetensors files."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = [file for ending in PICKLED for file in sorted(folder.glob(f"*{ending}"))]
        if pickled:
            raise ModelError(
                f"{folder}: only pickled weights ({pickled[0].name}): convert them to safetensors, where you trust "
                "them, with transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT)"
            )
        raise ModelError(
            f"{folder}: no weights (expected {WEIGHTS[0]}); to start from random ones set backbone.random_init"
        )
    _check_index(folder)
    for file in files:
        check_safetensors(file)


def _check_index(folder: Path) -> None:
    """Raise ModelError where an index leads to files that are not there, not beside it, or pickled."""
    index = folder / WEIGHTS[1]
    shards = read_json(index).get("weight_map") if index.exists() else {}
    if not isinstance(shards, dict):
        raise ModelError(f"{index}: weight_map is {shorten(shards)!r}, expected the file of each weight")
    for name in sorted({str(name) for name in shards.values()}):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: names {shorten(name)!r}, expected safetensors files beside it")
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: {name} is missing, which {index.name} names: fetch it again")


def check_base(folder: Path) -> None:
    """Raise ModelError for a base model of the synthetic world whose report says that it falls short."""
    report = folder / BASE_REPORT
    faults = read_json(report)["faults"] if report.exists() else []
    if faults:
        raise ModelError(f"{folder}: a base model that falls short ({'; '.join(faults)}): train it on more rows")


def check_safetensors(path: Path) -> None:
    """Raise ModelError for a file that is truncated or no safetensors file."""
    check_not_placeholder(path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError as error:
        size = path.stat().st_size
        raise ModelError(f"{path}: damaged safetensors file ({size} bytes, {error}): fetch it again") from error
