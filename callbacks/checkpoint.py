"""Saves checkpoints so that a run goes on after a kill at any time, and stops cleanly when asked to."""

from __future__ import annotations

import math
import re
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from align.errors import ConfigError, Stopped

_FILENAME = re.compile(r"(?!\.)([^{}/\\]|\{[^{}]+\})*")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Checkpoint(ModelCheckpoint):
    """A ModelCheckpoint that also writes `last.ckpt` every so many steps, at every epoch end, and when told to stop.

    On SIGTERM, SIGINT or SIGHUP the current optimiser step is finished, `last.ckpt` written, and the program ends with
    128 plus the signal's number; a second signal ends it at once. A step that a validation follows is saved after it:
    from before it, a run would go on without its figures, which other callbacks count by.
    """

    def __init__(self, every_n_steps: int | None = None, every_n_minutes: float | None = None, **options: Any) -> None:
        """Configure saving.

        Args:
            every_n_steps: Optimiser steps between writes of `last.ckpt`; null writes it at epoch ends only.
            every_n_minutes: Minutes between writes of `last.ckpt`, by the first process's clock and at the end of a
                step, beside those of `every_n_steps`; null writes by steps and epochs only.
            options: See `lightning.pytorch.callbacks.ModelCheckpoint`.
        """
        if every_n_steps is not None and every_n_steps < 1:
            raise ConfigError(
                f"align.callbacks.checkpoint.Checkpoint: every_n_steps must be at least 1, got {every_n_steps}"
            )
        if every_n_minutes is not None and not 0 < every_n_minutes < math.inf:
            raise ConfigError(
                f"align.callbacks.checkpoint.Checkpoint: every_n_minutes must be above 0, got {every_n_minutes}"
            )
        filename = options.get("filename") or ""
        if not _FILENAME.fullmatch(filename):
            raise ConfigError(
                f"align.callbacks.checkpoint.Checkpoint: filename {filename!r} is no file name: expected text without "
                "folders and fields as {step} (dirpath names the folder)"
            )
        super().__init__(save_last=True, enable_version_counter=False, **options)
        self.every_n_steps, self.every_n_minutes = every_n_steps, every_n_minutes
        self._written_at = 0.0
        self._seen_step = -1
        self._due_after_validation = False
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save in `checkpoints` of the run folder, wherever the loggers write, unless `dirpath` names a folder."""
        self.dirpath = self.dirpath or str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to signals; Lightning's own handlers, which lose a batch or save nothing, come back at the end."""
        super().on_train_start(trainer, pl_module)
        self._seen_step, self._signal, self._written_at = trainer.global_step, None, time.monotonic()
        self._handlers = {number: signal.signal(number, self._stop) for number in SIGNALS}

    def _stop(self, number: int, frame: Any) -> None:
        if self._signal is not None:
            raise Stopped("stopped at once by a second signal; the last checkpoint is whole", number)
        self._signal = number

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an optimiser step: save when it is time, and stop when asked to.

        After the last step of an epoch the epoch end saves: from here, a run would go on without the validation and the
        hooks of that end. Within an epoch the end of the validation does, where one is due.
        """
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step == self._seen_step:
            return
        self._seen_step = trainer.global_step
        if trainer.is_last_batch:
            return
        due = self._due(trainer)
        loop = trainer.fit_loop
        self._due_after_validation = False
        if loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
            self._due_after_validation = due
        elif self._asked(trainer):
            self._write_last(trainer)
            trainer._logger_connector.on_batch_end()  # what Lightning does next: the step is logged, as it is saved
            trainer._logger_connector.update_train_step_metrics()
            self._stop_run(trainer)
        elif due:
            self._write_last(trainer)

    def _due(self, trainer: Trainer) -> bool:
        """Tell whether it is time to save, on all processes alike."""
        by_steps = bool(self.every_n_steps) and trainer.global_step % (self.every_n_steps or 1) == 0
        if self.every_n_minutes is None or by_steps:
            return by_steps
        passed = time.monotonic() - self._written_at >= 60 * self.every_n_minutes
        return bool(trainer.strategy.broadcast(passed))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what the step before was due to, and stop when asked to; at the end of an epoch that end saves."""
        super().on_validation_end(trainer, pl_module)
        if trainer.sanity_checking or trainer.state.fn != "fit" or trainer.is_last_batch:
            return
        asked = self._asked(trainer)
        if asked or self._due_after_validation:
            self._write_last(trainer)
        self._due_after_validation = False
        if asked:
            self._stop_run(trainer)

    def _asked(self, trainer: Trainer) -> bool:
        return bool(trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False))

    def _stop_run(self, trainer: Trainer) -> NoReturn:
        number = self._signal or signal.SIGTERM
        raise Stopped(
            f"stopped at step {trainer.global_step} by {signal.Signals(number).name}: give the same command again, "
            f"or add --ckpt_path {self.last_model_path}, to go on",
            number,
        )

    def format_checkpoint_name(self, *arguments: Any, **options: Any) -> str:
        """Return the path of a checkpoint; the `/` in the name of a metric makes no folder."""
        path = super().format_checkpoint_name(*arguments, **options)
        folder = f"{self.dirpath}/" if self.dirpath else ""
        return folder + path.removeprefix(folder).replace("/", "_")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the list of best checkpoints, also of a run folder that has been moved since."""
        folder, new = state_dict["dirpath"], str(self.dirpath)

        def moved(path: str) -> str:
            return f"{new}{path.removeprefix(folder)}" if path.startswith(f"{folder}/") else path

        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        if folder != new and not Path(folder).exists() and all(Path(path).exists() for path in best):
            names = ("best_model_path", "kth_best_model_path", "last_model_path")
            paths = {name: moved(state_dict[name]) for name in names}
            state_dict = {**state_dict, "dirpath": new, "best_k_models": best, **paths}
        super().load_state_dict(state_dict)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Never take a score that is not finite for one of the best, as Lightning does while it has room for more."""
        if current is not None and not current.isfinite():
            rank_zero_warn(
                f"{self.monitor} is {current.item()} at step {trainer.global_step}: not kept among the best checkpoints"
            )
            return False
        return super().check_monitor_top_k(trainer, current)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at every epoch end, also when the last step has just been saved, and stop when asked to."""
        super().on_train_epoch_end(trainer, pl_module)
        self._write_last(trainer)
        if self._asked(trainer):
            self._stop_run(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the signal handlers back."""
        super().on_train_end(trainer, pl_module)
        self._restore_handlers()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the signal handlers back."""
        super().on_exception(trainer, pl_module, exception)
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _write_last(self, trainer: Trainer) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            saved = self._last_global_step_saved
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
            self._written_at = time.monotonic()
            self._last_global_step_saved = saved  # so that the epoch's own checkpoint is not left out
