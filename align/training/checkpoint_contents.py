"""What a checkpoint of a module holds: trained parameters, and the facts an artefact needs."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from align.errors import ResumeError
from align.models.condition_file import plain_form
from align.models.principal_start import start_weights
from align.training.run_data import data_of
from align.training.seeding import run_seed

if TYPE_CHECKING:
    from align.training.built_module import BuiltModule

Shapes = dict[str, tuple[int, ...]]
MODELS = {"model", "reference_model", "critic"}
"""Parts of a module whose buffers come with the backbone."""


def trained_shapes(module: BuiltModule) -> Shapes:
    """Return names and shapes of parameters that are trained, move or were taken out of a base, and running values."""
    moving = set(map(id, [*module.moving_parameters(), *start_weights(module)]))
    changing = ((name, p) for name, p in module.named_parameters() if p.requires_grad or id(p) in moving)
    trained = {name: tuple(p.shape) for name, p in changing}
    running = {name: tuple(b.shape) for name, b in module.named_buffers() if name.split(".")[0] not in MODELS}
    return trained | running


def check_fits(method: str, own: Shapes, checkpoint: dict[str, Any]) -> None:
    """Compare method, names and shapes with what the checkpoint notes. Raises ResumeError naming the first difference.

    The note is compared, not the tensors: a sharding strategy has taken them out by then.
    """
    note = checkpoint.get("align", {})
    found = note.get("method") or "another program"
    if found != method:
        raise ResumeError(f"the checkpoint belongs to {found}, this run is {method}")
    saved: Shapes = note["trained"]
    wrong = sorted(name for name in saved.keys() | own.keys() if saved.get(name) != own.get(name))
    if wrong:
        raise ResumeError(
            f"the checkpoint does not fit the model: {len(wrong)} parameters differ, first {wrong[0]}: "
            f"{saved.get(wrong[0], 'missing')} saved, {own.get(wrong[0], 'missing')} here; check backbone.path and "
            "backbone.lora"
        )
    compare_versions(checkpoint["align"]["versions"])


def facts_of(trainer: Trainer) -> dict[str, Any]:
    """Return plain values only, so that a checkpoint loads with `weights_only=True`."""
    data = data_of(trainer)
    asks = None if data is None else data.asks
    return {
        "fingerprint": "" if data is None else data.fingerprint,
        "prompt_format": None if data is None else list(data.prompt_format),
        "max_tokens": None if data is None else data.max_tokens,
        "asks": None if asks is None else plain_form(asks),
        "seed": run_seed(),
        "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
    }


def versions() -> dict[str, str]:
    """Return the versions that can change a weight."""
    return {name: version(name) for name in ("torch", "lightning", "transformers", "peft")}


def compare_versions(saved: dict[str, str]) -> None:
    """Warn when a library is another one than when the checkpoint was written."""
    now = versions()
    changed = [f"{name} was {saved[name]} and is {now[name]} now" for name in now if saved[name] != now[name]]
    if changed:
        rank_zero_warn(
            f"{', '.join(changed)}: the run goes on, but it may not end with the weights it would have had, to the bit"
        )


def fix_last_batch(trainer: Trainer) -> None:
    """Let a run that goes on from the last batch of an epoch of unknown length begin the next one.

    Lightning compares the batches it has done with a length that is infinite, and would leave the next epoch out.
    """
    loop: Any = trainer.fit_loop.epoch_loop  # its counters are whole numbers, the length may be infinite
    if loop.restarted_on_train_batch_end and loop.batch_progress.is_last_batch:
        loop.batch_progress.current.completed = max(loop.batch_progress.current.completed, trainer.num_training_batches)


def fix_epoch_counters(checkpoint: dict[str, Any]) -> None:
    """Count the epoch a checkpoint is saved in as begun.

    Lightning leaves that out in a process that went on from the last batch of an epoch, and a second resume would
    then repeat an epoch.
    """
    for progress in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        for name in ("ready", "started"):
            progress[name] = max(progress[name], progress["completed"] + 1)
