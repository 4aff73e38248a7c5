"""Folders onto the hub by `huggingface_hub`: private unless told otherwise, and whole on disk whatever the hub says.

The token comes from the environment or `hf auth login`, and never into a message: the hub's own words are not repeated.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from align.cli.secrets import check_secrets
from align.cli.unused import Unused, without
from align.errors import ConfigError, PushError, shorten

Kind = Literal["model", "dataset"]
HIDDEN = [".*", "**/.*"]
"""Files that stay here: those of version control, caches, and what a killed process left."""
READ_BY_PEOPLE = (".md", ".yaml", ".yml")
PUSHING = [Unused(("public", "revision", "dry_run"), without("push_to_hub"), "belongs to --push_to_hub: add that")]
STATUS = {
    401: "the token is missing or not valid: `hf auth login`, or set HF_TOKEN",
    403: "the token may not write there: take one with write access to that name",
    404: "no such repository or revision, or not for this token: check the id",
    409: "somebody else has changed it meanwhile, or it is of another kind: look at it",
    413: "a file is too large for the hub: split it",
    429: "too many requests: wait some minutes",
}
"""What to do, by what the hub answers."""


@dataclass(frozen=True)
class Target:
    """A repository on the hub."""

    id: str
    kind: Kind = "model"
    public: bool = False
    revision: str | None = None
    """A branch, made where there is none; null is the usual one."""

    def __post_init__(self) -> None:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils._validators import validate_repo_id

        try:
            validate_repo_id(self.id)
        except HFValidationError as error:
            reason = shorten(error, 160)
            raise ConfigError(f"--push_to_hub {self.id!r}: expected NAME or OWNER/NAME ({reason})") from error

    def command(self, folder: Path) -> str:
        """Return the command that pushes a folder there."""
        kind = [] if self.kind == "model" else ["--kind", self.kind]
        words = ["align", "push", str(folder), self.id, *kind, *(["--public", "true"] if self.public else [])]
        return shlex.join([*words, *(["--revision", self.revision] if self.revision else [])])


def push(folder: Path, target: Target, *, later: str, local: Path | None = None, dry_run: bool = False) -> None:
    """Upload the files of a folder, or list them, and say where they are.

    `later` is the command that does it another time, `local` what stays here if it is not the folder. Raises PushError
    where the hub cannot take them, ConfigError for a folder without files or with a key in its card.
    """
    files, kept = listed(folder), local or folder
    told = f"{len(files)} files, {sum(path.stat().st_size for path in files):,} bytes"
    access = "public" if target.public else "private"
    if dry_run:
        for path in files:
            print(f"{path.stat().st_size:>15,}  {path.relative_to(folder)}")
        branch = f", branch {target.revision}" if target.revision else ""
        print(f"dry run, nothing is uploaded: {told} would go to {target.kind} {target.id} ({access}{branch})")
        return
    with _explained(kept, target, later):
        url = _upload(folder, target)
    print(f"{told} of {kept} are on {url} ({access})")


def push_file(file: Path, place: str, card: str, target: Target, *, dry_run: bool) -> None:
    """Upload a file and its card, or list them; the same command does it another time. Raises as `push` does."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "README.md").write_text(card, encoding="utf-8")
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).symlink_to(file.resolve())
        push(folder, target, local=file, later="the same command", dry_run=dry_run)


def listed(folder: Path) -> list[Path]:
    """Return the files that are pushed. Raises ConfigError where there are none, and for a key in a text for people."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder, expected one to push")
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path.relative_to(folder))]
    if not found:
        raise ConfigError(f"{folder}: no files, expected some to push")
    for path in found:
        if path.suffix in READ_BY_PEOPLE:
            check_secrets(path.read_text(encoding="utf-8", errors="replace"), str(path))
    return found


def _hidden(inside: Path) -> bool:
    return any(part.startswith(".") for part in inside.parts)


def _upload(folder: Path, target: Target) -> str:
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    if get_token() is None:
        raise LocalTokenNotFoundError
    api: Any = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="align")
    name = target.id
    try:
        name = api.create_repo(name, repo_type=target.kind, private=not target.public).repo_id
    except HfHubHTTPError as error:
        if _status(error) != 409:
            raise
        if api.repo_info(name, repo_type=target.kind).private is False and not target.public:
            raise ConfigError(
                f"--push_to_hub {name}: is there already, and everybody can read it: add --public true, or take "
                "another name"
            ) from error
    if target.revision:
        api.create_branch(name, branch=target.revision, repo_type=target.kind, exist_ok=True)
    options = {"repo_type": target.kind, "revision": target.revision, "commit_message": "Upload by align"}
    done = api.upload_folder(repo_id=name, folder_path=folder, ignore_patterns=list(HIDDEN), **options)
    return str(done.repo_url)


@contextmanager
def _explained(folder: Path, target: Target, later: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    http: Any = HfHubHTTPError.__bases__  # of the HTTP library that it is built on
    try:
        yield
    except ConfigError:
        raise
    except (OSError, ValueError, RuntimeError, *http) as error:
        raise PushError(
            f"{target.kind} {target.id} not pushed: {_reason(error)}; {folder} is whole, this pushes it later: {later}"
        ) from error


def _status(error: Exception) -> int | None:
    found: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return found


def _reason(error: Exception) -> str:
    """Return why, and what to do, without a word of the hub's, which may hold what it was sent."""
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

    status = _status(error)
    if isinstance(error, LocalTokenNotFoundError):
        return STATUS[401]
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set: unset it"
    if status is not None:
        return f"the hub answers {status}, " + STATUS.get(status, "which is its own fault: wait a little")
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return f"the hub cannot be reached ({type(error).__name__}): check the network, and HF_ENDPOINT if it is set"
