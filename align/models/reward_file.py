"""What a reward model's outputs mean, in a file beside its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from align.errors import ModelError
from align.models.folder_checks import local_folder, read_json
from align.records import LabelScaling

REWARD_FILE = "reward.json"
MEANING = "points = offset + unit * logit; label = (points - intercept) / slope; a label's range is 0 to 100 points"
Reading = Literal["turn_end", "template"]
"""Where a reward is read: at the token that ends the response's turn, as here in training, or at the last token of
the dialogue as the tokenizer's chat template renders it, as RewardBench and the cards of most reward models do (it may
add a line break after that token)."""


def write_reward_file(rescaling: LabelScaling | None, folder: Path, max_tokens: int | None = None) -> None:
    """Write where the reward is read, the longest dialogue of the training, and what the outputs of ratings mean."""
    content: dict[str, Any] = {"reading": "turn_end", **({"max_tokens": max_tokens} if max_tokens else {})}
    if rescaling is not None:
        content |= {"meaning": MEANING, **rescaling.plain()}
    (folder / REWARD_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_reward_file(path: str, needed: Sequence[str] = ()) -> LabelScaling | None:
    """Return what the outputs of a reward model folder mean; None where the file says nothing of it.

    Raises ModelError for a file that cannot be understood, or where a needed output is missing.
    """
    content = _content(path)
    if set(content) <= {"reading", "max_tokens"}:
        return None
    try:
        found = LabelScaling.of_plain(content)
    except ValueError as error:
        raise ModelError(f"{Path(path) / REWARD_FILE}: {error}") from error
    check_outputs(path, found.attributes, needed)
    return found


def read_reading(path: str) -> Reading | None:
    """Return where the reward of a folder is read, None where its file does not say. Raises ModelError for nonsense."""
    content = _content(path)
    if not content:
        return None
    found = content.get("reading", "turn_end")  # without it the file is an older one of ours
    if found not in get_args(Reading):
        raise ModelError(f"{Path(path) / REWARD_FILE}: reading {found!r}, expected {' or '.join(get_args(Reading))}")
    return found  # type: ignore[no-any-return]


def read_max_tokens(path: str) -> int | None:
    """Return the longest dialogue of a folder's training, None where it does not say. Raises ModelError."""
    found = _content(path).get("max_tokens")
    if found is not None and (type(found) is not int or found < 2):
        raise ModelError(f"{Path(path) / REWARD_FILE}: max_tokens {found!r}, expected a number from 2")
    return found


def _content(path: str) -> dict[str, Any]:
    folder = local_folder(path)
    return read_json(folder / REWARD_FILE) if folder is not None and (folder / REWARD_FILE).exists() else {}


def check_outputs(path: str, found: Sequence[str], needed: Sequence[str]) -> None:
    """Raise ModelError where a needed output is missing."""
    if missing := [name for name in needed if name not in found]:
        raise ModelError(
            f"{path}: a reward model with {len(found)} outputs ({', '.join(found)}), expected {', '.join(missing)} too"
        )
