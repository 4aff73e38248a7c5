"""Processes wait for one that works alone: callbacks sample, ask judges and export on the first process only."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback

from align.distributed import meet, part


def meetings() -> Callback:
    """Return what lets processes meet."""
    return _Meetings()


class _Meetings(Callback):
    """Lets all processes meet where callbacks have worked, before a collective with a time limit begins."""

    def _meet(self, *_: Any, **__: Any) -> None:
        meet()

    on_fit_start = on_train_start = on_validation_end = on_train_epoch_end = on_train_end = _meet

    def teardown(self, *_: Any, **__: Any) -> None:
        """Meet for the last time."""
        part()
