"""What a checkpoint of a module holds: trained parameters, and the facts an artefact needs."""

from __future__ import annotations

from typing import Any

from torch import nn

from align.errors import ResumeError
from align.modules.streams import run_seed

Shapes = dict[str, tuple[int, ...]]
MODELS = {"model", "reference_model"}
"""Parts of a module whose buffers come with the backbone."""


def trained_shapes(module: nn.Module) -> Shapes:
    """Return names and shapes of the parameters that are trained, and of running values outside the models."""
    trained = {name: tuple(p.shape) for name, p in module.named_parameters() if p.requires_grad}
    running = {name: tuple(b.shape) for name, b in module.named_buffers() if name.split(".")[0] not in MODELS}
    return trained | running


def check_fits(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Compare method, names and shapes. Raises ResumeError naming the first difference."""
    method = checkpoint.get("align", {}).get("method")
    if method != type(module).__name__:
        found = method or "another program"
        raise ResumeError(f"the checkpoint belongs to {found}, this run is {type(module).__name__}")
    saved: Shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint["state_dict"].items()}
    own = trained_shapes(module)
    wrong = sorted(name for name in saved.keys() | own.keys() if saved.get(name) != own.get(name))
    if wrong:
        raise ResumeError(
            f"the checkpoint does not fit the model: {len(wrong)} parameters differ, first {wrong[0]}: "
            f"{saved.get(wrong[0], 'missing')} saved, {own.get(wrong[0], 'missing')} here; check backbone.path and "
            "backbone.lora"
        )


def facts_of(trainer: Any) -> dict[str, Any]:
    """Return plain values only, so that a checkpoint loads with `weights_only=True`."""
    data: Any = getattr(trainer, "datamodule", None)
    return {
        "fingerprint": getattr(data, "fingerprint", ""),
        "prompt_format": None if data is None else list(data.prompt_format),
        "seed": run_seed(),
        "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
    }


def mend_epoch_counters(checkpoint: dict[str, Any]) -> None:
    """Count the epoch a checkpoint is saved in as begun.

    Lightning leaves that out in a process that went on from the last batch of an epoch, and a second resume would
    then repeat an epoch.
    """
    for progress in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        for name in ("ready", "started"):
            progress[name] = max(progress[name], progress["completed"] + 1)
