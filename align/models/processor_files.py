"""What prepares pictures and sounds for a model: settings beside its weights, which a written folder keeps."""

from __future__ import annotations

import shutil
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from transformers.utils import FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME, VIDEO_PROCESSOR_NAME
from transformers.utils.hub import cached_files

from align.models.beside_text import parts_beside_text
from align.scoring.decoder import unwrapped

NAMES = (FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME, VIDEO_PROCESSOR_NAME)


def copy_processor(model: nn.Module, folder: Path) -> None:
    """Copy the files of a model's processor from where it was read; a model of text alone has none.

    vLLM and `AutoProcessor` do not open a model of pictures and text without them. Where none is found, that is told.
    """
    if not parts_beside_text(model):
        return
    source = unwrapped(model).name_or_path
    found = _files(source)
    for path in found:
        shutil.copyfile(path, folder / path.name)
    if not found:
        rank_zero_warn(
            f"{folder.name}: {source} has no {FEATURE_EXTRACTOR_NAME} and no {PROCESSOR_NAME}, without which vLLM "
            "opens no model of pictures and text: copy those of its base there"
        )


def _files(source: str) -> list[Path]:
    """Return the files that are there, in a folder or on the hub."""
    if Path(source).is_dir():
        return [path for path in (Path(source) / name for name in NAMES) if path.exists()]
    found = cached_files(
        source,
        list(NAMES),
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return [Path(path) for path in found or []]
