"""Checks on the trainer's settings and on the launcher's variables, where Lightning would crash or look away."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace

from align.cli.null_check import check_nulls
from align.cli.number_check import check_numbers
from align.errors import ConfigError

WORKERS = 64
"""A machine may have so many processes that load or encode, or four for each of its processors."""
LOWEST = {
    "accumulate_grad_batches": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "check_val_every_n_epoch": 1,
    "reload_dataloaders_every_n_epochs": 0,
    "num_sanity_val_steps": -1,
}
ABOVE_ZERO = {
    "val_check_interval": "leave it out, or set limit_val_batches 0 for no validation",
    "limit_train_batches": "there would be nothing to train on",
}
DEVICES = 16
"""A machine may have so many, or four for each of its processors where they are processes."""
FSDP1 = ("fsdp", "fsdp_cpu_offload", "FSDPStrategy")
LAUNCHER = ("LOCAL_RANK", "RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_PORT", "SLURM_NTASKS", "SLURM_PROCID")


def check_settings(config: Any) -> None:
    """Raise ConfigError for the first setting of a run that Lightning would crash over, or look away from."""
    if config.get("weights_only") is False:
        raise ConfigError("--weights_only false: a checkpoint could run code when it is read: leave it out")
    check_numbers(config)
    check_nulls(config)
    check_seed(config.get("seed_everything"))
    check_trainer(config.trainer)
    check_workers(config.data)


def check_trainer(trainer: Any) -> None:
    """Raise ConfigError for a setting out of range, or a strategy that cannot train."""
    if not isinstance(trainer, Mapping | Namespace):
        raise ConfigError(f"--trainer: expected settings as `key: value`, got {trainer!r}: leave it out for the usual")
    for name, lowest in LOWEST.items():
        value = trainer.get(name)
        if isinstance(value, int | float) and value < lowest:
            raise ConfigError(f"--trainer.{name} must be at least {lowest}, got {value}")
    for name, advice in ABOVE_ZERO.items():
        if trainer.get(name) in (0, "0"):
            raise ConfigError(f"--trainer.{name} must be above 0, got 0: {advice}")
    _check_ends(trainer)
    _check_devices(trainer.get("devices"))
    strategy = trainer.get("strategy")
    name = str(strategy if isinstance(strategy, str) else (strategy or {}).get("class_path")).rsplit(".", 1)[-1]
    if name in FSDP1:
        raise ConfigError(
            f"--trainer.strategy {name}: FSDP1 cannot clip gradients by their norm, expected FSDP2, which replaces it: "
            "-c configs/trainer/fsdp2.yaml"
        )


def _check_ends(trainer: Any) -> None:
    """Raise ConfigError for a run that would have to be longer than it may be."""
    for what in ("epochs", "steps"):
        least, most = trainer.get(f"min_{what}") or 0, trainer.get(f"max_{what}")
        if most is not None and 0 <= most < least:
            raise ConfigError(f"--trainer.min_{what} must be at most max_{what}, {most}, got {least}")


def _check_devices(devices: Any) -> None:
    """Raise ConfigError for what names no devices: Lightning raises TypeErrors for most of it."""
    listed = devices.split(",") if isinstance(devices, str) else devices if isinstance(devices, list) else [devices]
    numbers = [str(one).strip() for one in listed]
    single = not isinstance(devices, list) and len(numbers) == 1
    if devices in (None, "auto") or (single and numbers[0] == "-1"):
        return
    if (
        not numbers
        or not all(number.isdecimal() and len(number) < 7 for number in numbers)
        or (single and int(numbers[0]) < 1)
    ):
        raise ConfigError(
            f"--trainer.devices: expected auto, a number from 1 on, or a list such as [0, 1], got devices={devices!r}"
        )
    most = max(DEVICES, 4 * (os.cpu_count() or 1))
    if (asked := int(numbers[0]) if single else len(numbers)) > most:
        raise ConfigError(f"--trainer.devices: expected at most {most} processes on one machine, got {asked}")


def check_workers(data: Any) -> None:
    """Raise ConfigError for more processes than a machine can be meant to have."""
    most = max(WORKERS, 4 * (os.cpu_count() or 1))
    for group, name in (("batching", "num_workers"), ("encoding", "num_proc")):
        settings = (data.get("init_args") or {}).get(group) or {}
        if (asked := settings.get(name) or 0) > most:
            raise ConfigError(
                f"--data.{group}.{name}: expected at most {most} (this machine has {os.cpu_count()} processors), got "
                f"{asked}"
            )


def check_seed(seed: Any) -> None:
    """Raise ConfigError for a seed that numpy does not take."""
    if isinstance(seed, int) and not 0 <= seed < 2**32:
        raise ConfigError(f"--seed_everything must lie in [0, {2**32 - 1}], got {seed}")


def ended_by(trainer: Any) -> str:
    """Return one line: which setting ended a run that was not cut off, and where.

    Lightning takes the end of an epoch for the reason, and `max_steps` is a callback of ours.
    """
    limit = next((c.max_steps for c in trainer.callbacks if hasattr(c, "max_steps")), None)
    place = f"fit ended after {trainer.global_step} steps"
    if limit is not None and trainer.global_step >= limit:
        return f"{place}: --trainer.max_steps {limit}"
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        end = f"{place}: --trainer.max_epochs {trainer.max_epochs}"
        if limit is not None and getattr(trainer.datamodule, "streaming", False):
            end += f"; the learning rate was laid out for --trainer.max_steps {limit}, set max_epochs -1 to get there"
        return end
    return f"{place}, in epoch {trainer.current_epoch + 1}: a callback or --trainer.max_time"


def check_launcher() -> None:
    """Raise ConfigError for a variable of the launcher that is set and no number."""
    for name in LAUNCHER:
        value = os.environ.get(name, "0")
        if not value.isdigit():
            raise ConfigError(f"environment variable {name} is {value!r}, expected a number: unset it")
