"""`align export`: a model folder from the checkpoint of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser

from align.cli.functions import FunctionVerb
from align.cli.pushing import PUSHING, Target, push
from align.cli.run_folder import checkpoint_folder, saved_settings
from align.cli.start import prepare
from align.errors import ResumeError, shorten
from align.training.base_module import AlignModule
from align.training.shard_files import SHARDS, differing, missing

LOSS = ("objective", "reference", "reduction", "weighting")
"""Settings of a module that only its loss reads."""


def export(
    run: str,
    out: str,
    *,
    checkpoint: str = "last.ckpt",
    merge: bool = False,
    push_to_hub: str | None = None,
    public: bool = False,
    revision: str | None = None,
    dry_run: bool = False,
) -> None:
    """Write the model of a run as a folder that transformers and PEFT open.

    Args:
        run: The run folder, with config.yaml and checkpoints.
        out: Folder to write.
        checkpoint: Which of the run's checkpoints.
        merge: Add LoRA adapters to the weights and write a full folder.
        push_to_hub: Repository on the hub that the folder is uploaded to, OWNER/NAME; it is made where there is none.
        public: Let everybody read it; false makes it private.
        revision: Branch to push to, made where there is none.
        dry_run: Write the folder, list what would be uploaded, and upload nothing.
    """
    target = None if push_to_hub is None else Target(push_to_hub, "model", public, revision)
    config = saved_settings(Path(run))
    spec = without_own_loss(config["model"])
    module = build_module(spec)
    path = checkpoint_folder(Path(run), config) / checkpoint
    load_checkpoint(module, path, with_loss=spec == config["model"])
    module.export(out, merge=merge, config=config)
    print(f"model of {path} written to {out}")
    if target is not None:
        push(Path(out), target, later=target.command(Path(out)), dry_run=dry_run)


def without_own_loss(spec: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only the loss reads where it names a package of the user's own: the weights need none of it."""
    settings: dict[str, Any] = spec.get("init_args", {})
    own = {name for name in LOSS if _names_own_package(settings.get(name))}
    left_out = {*own, "reference"} if "objective" in own else own
    return {**spec, "init_args": {name: value for name, value in settings.items() if name not in left_out}}


def _names_own_package(value: Any) -> bool:
    if isinstance(value, dict):
        top = str(value.get("class_path", "align")).split(".")[0]
        return top != "align" or any(_names_own_package(inner) for inner in value.values())
    return isinstance(value, list) and any(_names_own_package(inner) for inner in value)


def build_module(spec: dict[str, Any]) -> AlignModule:
    """Return the module a run's configuration describes."""
    prepare([])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=AlignModule)
    module: AlignModule = parser.instantiate(parser.parse_object({"model": spec})).model
    return module


def load_checkpoint(module: AlignModule, path: Path, *, with_loss: bool = True) -> None:
    """Build the model of a checkpoint, with or without what its loss has learnt.

    Raises ResumeError for a missing, damaged or foreign one.
    """
    if not path.exists():
        known = ", ".join(sorted(p.name for p in path.parent.glob("*.ckpt"))) or "none"
        raise ResumeError(f"{path}: no such checkpoint (there: {known})")
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        content["state_dict"], content["align"]["trained"]
    except Exception as error:  # whatever torch says of a broken or foreign file
        raise ResumeError(
            f"{path}: damaged checkpoint, or not one of ours ({path.stat().st_size} bytes, {shorten(error)})"
        ) from error
    if (shards := content.get(SHARDS)) and (fault := missing(path, shards) or differing(path, shards)):
        raise ResumeError(f"{path}: damaged checkpoint ({fault})")
    for values in () if with_loss else (content["state_dict"], content["align"]["trained"]):
        for name in [name for name in values if name.startswith("provider.")]:
            del values[name]
    module.restore(content, path)


VERB = FunctionVerb(export, unused=PUSHING)
