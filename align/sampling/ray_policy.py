"""A policy that workers on a Ray cluster draw from: what each is told, and the engine it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from align.checks.trust import trust
from align.models.backbone import Backbone
from align.models.folder_checks import local_folder
from align.models.foreign_code import is_trusted, trust_foreign_code
from align.models.loading import load_policy
from align.models.tokenizer import load_tokenizer
from align.sampling.checked import LocalEngine
from align.sampling.decoding_rows import telling
from align.sampling.generation import Completion, Generation, Job

Batch = Sequence[Job]


@dataclass(frozen=True)
class WorkerPolicy:
    """Makes, on a worker, what draws batches: the model of a folder in align's own engine."""

    backbone: Backbone
    eos_ids: tuple[int, ...]
    stop: tuple[str, ...]
    settings: Generation
    round_number: int
    trusted: bool
    """Whether the command line lets folders bring code of their own."""

    @classmethod
    def of(
        cls, backbone: Backbone, eos_ids: Sequence[int], stop: Sequence[str], settings: Generation, round_number: int
    ) -> WorkerPolicy:
        """Return what a worker is told, whose own folder is another than this process's."""
        found = replace(backbone, path=_absolute(backbone.path), chat_template=None)
        if found.tokenizer is not None:
            found = replace(found, tokenizer=_absolute(found.tokenizer))
        return cls(found, tuple(eos_ids), tuple(stop), settings, round_number, is_trusted())

    def __call__(self) -> Callable[[Batch], list[list[Completion]]]:
        """Load the model, on a GPU where the worker has one, and return what draws a batch from it.

        Completions tell log-probabilities; their tokens are those of `LocalEngine` in any other process.
        """
        trust_foreign_code(self.trusted)
        tokenizer = load_tokenizer(self.backbone)
        model: Any = load_policy(self.backbone, tokenizer).eval().requires_grad_(False)
        if not self.backbone.check:
            trust(model)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        engine = LocalEngine(model, tokenizer, self.eos_ids, self.stop)

        def draw(batch: Batch) -> list[list[Completion]]:
            with telling():
                return engine.generate(batch, self.settings, self.round_number)

        return draw


def _absolute(path: str) -> str:
    """Return a local folder's whole path; a hub id as it is."""
    folder = local_folder(path)
    return path if folder is None else str(folder.resolve())
