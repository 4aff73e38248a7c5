"""What a backbone's path names: a model, or an adapter and the model it belongs to."""

from __future__ import annotations

from pathlib import Path

from align.errors import ConfigError, ModelError
from align.models.adapter_folder import check_adapter_folder
from align.models.backbone import Backbone
from align.models.folder_checks import ADAPTER_CONFIG, base_of, check_base, check_weights, local_folder, read_json
from align.models.sizes_only import sizes_only


def resolve(backbone: Backbone, task: str | None = None) -> tuple[str, Path | None]:
    """Return the base model's path and the adapter folder to go on from, if the backbone names one."""
    folder = local_folder(backbone.path)
    if folder is None or not (folder / ADAPTER_CONFIG).exists():
        if folder is not None and not backbone.random_init:
            _config_exists(folder)
            check_weights(folder)
            check_base(folder)
        return str(folder or backbone.path), None
    if backbone.lora is not None:
        raise ConfigError(
            f"backbone.path {folder} is an adapter, which brings its own rank and targets: leave backbone.lora out to "
            "train it on, or merge it first with `align export --merge`"
        )
    if backbone.random_init and task is not None and not sizes_only():
        raise ConfigError(
            f"backbone.path {folder} is an adapter of its base's weights, which backbone.random_init leaves out: leave "
            "either out"
        )
    check_adapter_folder(folder, task, weights=not backbone.random_init)
    base = base_of(folder)
    inner = local_folder(base)
    if inner is not None and not backbone.random_init:
        if (inner / ADAPTER_CONFIG).exists():
            raise ModelError(f"adapter {folder}: its base {inner} is an adapter too: merge that one first")
        check_weights(inner)
    return base, folder


def _config_exists(folder: Path) -> None:
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder}: no config.json, so this is not a model folder")
    read_json(folder / "config.json")
