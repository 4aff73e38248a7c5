"""The policies of a run's rounds, written where other programs load them, each under the hash of its weights."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from align.distributed import on_all, on_first
from align.errors import ResumeError, StoreError
from align.files import atomic_folder
from align.models.model_export import is_writer
from align.records import PromptFormat
from align.sampling.policy_server import ServedPolicy
from align.sampling.policy_server_finding import OURS
from align.sampling.served_folder import write_for_servers
from align.sampling.trained_module import TrainedModule


class WrittenPolicies:
    """Folders in `served/` of a run's rounds: those of the policy that draws now, and no older ones."""

    def __init__(self, rounds: Path) -> None:
        self.folder = rounds.resolve() / "served"
        self.run = f"{OURS}{hashlib.sha256(str(rounds.resolve()).encode()).hexdigest()[:8]}-"

    def write(self, module: TrainedModule, prompt_format: PromptFormat, weights: str, *, whole: bool) -> ServedPolicy:
        """Write a policy, unless it is there, and remove those of other weights; every process calls.

        Args:
            module: The method, with its weights as they are.
            prompt_format: How its prompts are written, and the token that ends a response.
            weights: Hash of the weights, and of how they are loaded.
            whole: Write the whole model, adapters merged; else the adapter alone.

        Raises StoreError where there is no room.
        """
        name, folder = self._place(weights, whole=whole)
        if not on_first(lambda: self._make_room(folder, name)):
            on_all(lambda: _write(module, folder, prompt_format, whole=whole))  # no process reads it before it is there
        return ServedPolicy(name, folder, self.run)

    def kept(self, weights: str, *, whole: bool) -> ServedPolicy:
        """Return a policy that was written before, of which the module has other weights by now.

        Raises ResumeError where it is not there.
        """
        name, folder = self._place(weights, whole=whole)
        if not on_first(folder.exists):
            raise ResumeError(
                f"{folder} is missing: the policy that a round is drawn from ahead, whose weights the model has no "
                "more: put it back, or go on from the checkpoint at the end of the round before"
            )
        return ServedPolicy(name, folder, self.run)

    def remove(self) -> None:
        """Remove all of them; every process calls."""
        on_first(lambda: shutil.rmtree(self.folder, ignore_errors=True))

    def _place(self, weights: str, *, whole: bool) -> tuple[str, Path]:
        name = f"{self.run}{weights}"
        return name, self.folder / (f"{name}-whole" if whole else name)

    def _make_room(self, folder: Path, name: str) -> bool:
        """Remove the folders of other weights, and tell whether this one is there."""
        for other in folder.parent.glob(f"{self.run}*"):
            if not other.name.startswith(name):
                shutil.rmtree(other)
        return folder.exists()


def _write(module: TrainedModule, folder: Path, prompt_format: PromptFormat, *, whole: bool) -> None:
    try:
        with atomic_folder(folder, writes=is_writer()) as part:
            write_for_servers(module.model, module.tokenizer, part, prompt_format, whole=whole)
    except OSError as error:
        raise StoreError(f"policy for servers {folder} not written: {error.strerror}: make room") from error
