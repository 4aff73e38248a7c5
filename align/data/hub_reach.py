"""Whether the hub answers at all, asked once; without it only what is in the cache is read, at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

SECONDS = 10.0
"""How long the hub may take to say what it knows of a dataset."""


@contextlib.contextmanager
def as_reachable(name: str) -> Iterator[bool]:
    """Read from the cache alone inside, where the hub cannot be reached: it would be asked six times for a file.

    Yields whether it is asked. A folder, and what the hub answers, whatever it is, are left to who reads.
    """
    import datasets
    from huggingface_hub import constants

    if Path(name).exists() or constants.HF_HUB_OFFLINE or _answers(name):
        yield True
        return
    known = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    try:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
        yield False
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = known


def _answers(name: str) -> bool:
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().dataset_info(name, timeout=SECONDS)
    except httpx2.TransportError:
        return False
    except (HfHubHTTPError, HFValidationError):
        return True  # it may still be in the cache, or has to be refused by its name
    return True
