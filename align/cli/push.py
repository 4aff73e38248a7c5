"""`align push`: a folder onto the hub, such as a model that could not be pushed when it was made."""

from __future__ import annotations

from pathlib import Path

from align.cli.functions import FunctionVerb
from align.cli.pushing import Kind, Target
from align.cli.pushing import push as push_files


def push(
    folder: str,
    id: str,
    *,
    kind: Kind = "model",
    public: bool = False,
    revision: str | None = None,
    dry_run: bool = False,
) -> None:
    """Upload a folder to the Hugging Face hub. The token is HF_TOKEN, or that of `hf auth login`.

    Args:
        folder: A model folder, or one with data and their card.
        id: The repository, OWNER/NAME; it is made where there is none.
        kind: What it is, `model` or `dataset`.
        public: Let everybody read it; false makes it private.
        revision: Branch to push to, made where there is none.
        dry_run: List the files and their sizes, and upload nothing.
    """
    target, place = Target(id, kind, public, revision), Path(folder)
    push_files(place, target, later=target.command(place), dry_run=dry_run)


VERB = FunctionVerb(push, positional=True)
