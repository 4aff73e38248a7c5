"""What rounds begin with: the weights a run started from, to which each goes back, or those that a reference is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from align.rounds.weights import follow_start, go_back, save_start


class RoundStarts:
    """Weights that rounds begin with, in the folder of a run's rounds; every process calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def follow(self, module: nn.Module, number: int, *, first: bool) -> None:
        """Let the reference be the policy as the round began; its weights are kept for a run that goes on within."""
        path = self.folder / f"start-{number:04d}.safetensors"
        if first:
            save_start(module, path)
            path.with_name(f"start-{number - 2:04d}.safetensors").unlink(missing_ok=True)
        follow_start(module, path)

    def restart(
        self, module: Any, optimizers: list[torch.optim.Optimizer], number: int, *, keep: bool, note: dict[str, Any]
    ) -> None:
        """Keep the start in the first round, and go back to it in the others.

        Args:
            module: The method.
            optimizers: Those whose moments are forgotten.
            number: Of the round that begins.
            keep: Write the model of the round before.
            note: What the records of that round asked for; empty in rounds without conditions.
        """
        path = self.folder / "start.safetensors"
        if number == 0:
            save_start(module, path)
            return
        if keep:
            if note:
                module.train_under(note)
            module.export(self.folder / f"model-{number - 1:04d}")
        go_back(module, optimizers, path)
