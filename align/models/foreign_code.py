"""Python that comes with a model folder: it never runs, and nobody is asked, unless the command line trusts it."""

from __future__ import annotations

import re

from align.errors import ConfigError, ModelError
from align.models.folder_checks import local_folder

OPTION = "--trust_remote_code"
"""The one way to let it run: settings in files cannot."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SAID = re.compile(r"custom code|remote[_ ]code", re.IGNORECASE)

_trusted: list[bool] = [False]


def trust_foreign_code(trusted: bool) -> None:
    """Let folders bring code of their own, or no longer; what the command line says, for this process."""
    _trusted[0] = trusted


def is_trusted() -> bool:
    """Tell whether the command line lets folders bring code of their own."""
    return _trusted[0]


def may_run_code(path: str, revision: str | None = None) -> bool:
    """Return what `trust_remote_code` is for a folder or hub id.

    Raises ConfigError for a hub id that is trusted without the commit that was read: its code may be another tomorrow.
    """
    if _trusted[0] and local_folder(path) is None and not _COMMIT.fullmatch(revision or ""):
        raise ConfigError(
            f"{OPTION}: {path} is a hub id, whose code may change: pin the commit you have read with "
            f"backbone.revision (40 digits), got {revision!r}"
        )
    return _trusted[0]


def refuse_code(path: str, error: Exception) -> None:
    """Raise ModelError where a library refused a folder for its code; return where it was something else."""
    if not _trusted[0] and _SAID.search(str(error)):
        raise ModelError(
            f"{path}: brings Python code of its own, which is not run: take a model that transformers knows, or read "
            f"the code and give {OPTION} on the command line"
        ) from error
