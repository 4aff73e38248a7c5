"""What a reward model's outputs mean, in a file beside its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from align.errors import ModelError
from align.models.files import local_folder, read_json
from align.records import Rescaling

REWARD_FILE = "reward.json"
MEANING = "points = offset + unit * logit; label = (points - intercept) / slope; a label's range is 0 to 100 points"


def write_reward_file(rescaling: Rescaling, folder: Path) -> None:
    """Write attributes and rescaling."""
    content = {"meaning": MEANING, **rescaling.plain()}
    (folder / REWARD_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_reward_file(path: str, needed: Sequence[str] = ()) -> Rescaling | None:
    """Return what the outputs of a reward model folder mean; None for a model without the file.

    Raises ModelError for a file that cannot be understood, or where a needed output is missing.
    """
    folder = local_folder(path)
    if folder is None or not (folder / REWARD_FILE).exists():
        return None
    try:
        found = Rescaling.of_plain(read_json(folder / REWARD_FILE))
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(f"{folder / REWARD_FILE}: {error}") from error
    check_outputs(path, found.attributes, needed)
    return found


def check_outputs(path: str, found: Sequence[str], needed: Sequence[str]) -> None:
    """Raise ModelError where a needed output is missing."""
    if missing := [name for name in needed if name not in found]:
        raise ModelError(
            f"{path}: a reward model with {len(found)} outputs ({', '.join(found)}), expected {', '.join(missing)} too"
        )
