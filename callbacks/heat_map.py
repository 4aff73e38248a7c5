"""A picture of representation alignment: what is left of the way to the target, by layer and position."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor

from align.strict_json import json_text


class ErrorProfile(Protocol):
    """Collects what is left of the way to the target."""

    def read(self) -> Tensor | None:
        """Return the share by layer and position, of all processes, and start again; None where nothing was added."""


class ProfiledModule(Protocol):
    """A module that aligns representations."""

    @property
    def profile(self) -> ErrorProfile:
        """Return what it has collected."""

    @property
    def layers(self) -> Sequence[int]:
        """Whose states are moved."""


class LayerHeatMap(Callback):
    """Draws `|h - target| / |alpha v|` by layer and response position: 1 where nothing is learned, 0 at the target.

    Every so many optimiser steps in the loggers that show pictures, and at the end also in the run folder:
    `alignment.png`, and `alignment.json` with `step`, `layers`, `positions` and the numbers,
    `left[layer][position]`. For modules that align representations; others have no picture.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        """Configure the picture.

        Args:
            every_n_steps: Optimiser steps that one picture averages over.
        """
        self.every_n_steps = every_n_steps
        self._last: dict[str, Any] | None = None
        self._drawn = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw when it is time."""
        step = trainer.global_step
        if step != self._drawn and step % self.every_n_steps == 0:
            self._drawn = step
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last picture and write it to the run folder."""
        self._draw(trainer, pl_module)
        if self._last is not None and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            folder = Path(trainer.default_root_dir)
            folder.mkdir(parents=True, exist_ok=True)
            figure = picture(torch.tensor(self._last["left"]), self._last["layers"])
            figure.savefig(folder / "alignment.png", dpi=120)
            (folder / "alignment.json").write_text(json_text(self._last), encoding="utf-8")

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast(ProfiledModule, pl_module) if hasattr(pl_module, "profile") else None
        shares = None if module is None else module.profile.read()
        if module is None or shares is None:
            return
        names = positions(shares.shape[1])
        left = shares.float().tolist()
        self._last = {"step": trainer.global_step, "layers": list(module.layers), "positions": names, "left": left}
        if trainer.is_global_zero:
            log_figure(trainer, "alignment", picture(shares, list(module.layers)))


def log_figure(trainer: Trainer, name: str, figure: Figure) -> None:
    """Show a picture in every logger that can: tensorboard, MLflow, and those with W&B's `log_image`."""
    step = trainer.global_step
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(name, figure, global_step=step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_figure(logger.run_id, figure, f"{name}/step-{step}.png")
        elif hasattr(logger, "log_image"):
            logger.log_image(name, [figure], step=step)


def positions(count: int) -> list[str]:
    """Return the names of the positions; the last one takes all later tokens."""
    return [*map(str, range(count - 1)), f"{count - 1}+"]


def picture(shares: Tensor, layers: list[int]) -> Figure:
    """Return the heat map of `[layer, position]` shares."""
    figure = Figure(figsize=(6, 1 + 0.4 * len(layers)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), aspect="auto", origin="lower", vmin=0, vmax=1, cmap="viridis_r")
    axes.set_xticks(range(shares.shape[1]), positions(shares.shape[1]))
    axes.set_yticks(range(len(layers)), list(map(str, layers)))
    axes.set_xlabel("position in the response")
    axes.set_ylabel("layer")
    figure.colorbar(image, label="share of the way left")
    return figure
