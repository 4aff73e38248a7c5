"""`align export`: a model folder from the checkpoint of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser

from align.cli.functions import call
from align.cli.preparing import prepare
from align.cli.run_folder import checkpoint_folder
from align.errors import ConfigError, ResumeError, shorten
from align.modules.base import AlignModule


def run(words: list[str]) -> int:
    """Run the verb."""
    return call(export, words, "export")


def export(run: str, out: str, *, checkpoint: str = "last.ckpt", merge: bool = False) -> None:
    """Write the model of a run as a folder that transformers and PEFT open.

    Args:
        run: The run folder, with config.yaml and checkpoints.
        out: Folder to write.
        checkpoint: Which of the run's checkpoints.
        merge: Add LoRA adapters to the weights and write a full folder.
    """
    config = _config(Path(run))
    module = build_module(config["model"])
    path = checkpoint_folder(Path(run), config) / checkpoint
    load_checkpoint(module, path)
    module.export(out, merge=merge, config=config)
    print(f"model of {path} written to {out}")


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    if not path.exists():
        raise ConfigError(f"run folder {folder}: no config.yaml, so this is not a run")
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def build_module(spec: dict[str, Any]) -> AlignModule:
    """Return the module a run's configuration describes."""
    prepare([])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=AlignModule)
    module: AlignModule = parser.instantiate(parser.parse_object({"model": spec})).model
    return module


def load_checkpoint(module: AlignModule, path: Path) -> None:
    """Build the model of a checkpoint. Raises ResumeError for a missing, damaged or foreign one."""
    if not path.exists():
        known = ", ".join(sorted(p.name for p in path.parent.glob("*.ckpt"))) or "none"
        raise ResumeError(f"{path}: no such checkpoint (there: {known})")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ResumeError(f"{path}: damaged checkpoint ({path.stat().st_size} bytes, {shorten(error)})") from error
    module.restore(content)
