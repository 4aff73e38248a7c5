"""The errors a user can cause, each with the exit code the command line returns for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

LONGEST = 1600
"""Characters of a line that is told."""


class AlignError(ValueError):
    """A user's mistake or a fault of the surroundings, told in one line: what, where, expected, found, what to do."""

    exit_code = 2

    def __str__(self) -> str:
        """Return the line; of one that quotes something endless, how it begins and how it ends."""
        line = super().__str__()
        return line if len(line) <= LONGEST else f"{line[: 3 * LONGEST // 4]} … {line[-LONGEST // 4 + 3 :]}"


class ConfigError(AlignError):
    """A setting that cannot be used."""


class DataError(AlignError):
    """A data file or row that cannot be used."""


class ModelError(AlignError):
    """A model folder, tokenizer or chat template that cannot be used."""


class StatesError(ModelError):
    """Hidden states that no layout makes readable."""

    @classmethod
    def check_streams(cls, block: str, shape: Sequence[int]) -> None:
        """Raise StatesError for a block that gives several streams of states, where methods read one."""
        if len(shape) != len(("row", "position", "hidden")):
            raise cls(
                f"{block} gives several streams of states ({list(shape)}), and representation methods read one (row, "
                "position, hidden): take another model"
            )


class ResumeError(AlignError):
    """A checkpoint or cache that does not belong to this run."""


class StoreError(AlignError):
    """A file of the run that cannot be written, or a run folder in use."""

    exit_code = 3


class PushError(AlignError):
    """A folder that the hub did not take; it is whole on disk."""

    exit_code = 3


class TrainingError(AlignError):
    """A fault of the training itself, such as a loss that is not a number."""

    exit_code = 3


class JudgeError(AlignError):
    """A judge that cannot be asked: a key that is refused, a model the server does not know, a redirect."""


class RewardError(AlignError):
    """A reward function that raised, hung, ended its process or returned no number; what was sampled is kept."""

    exit_code = 3


class Paused(AlignError):
    """Work that a budget or a service stopped; what is done is kept, and the same command goes on with the rest."""

    exit_code = 75


class Stopped(AlignError):
    """A run that was asked to stop, and has saved where it was."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x' or 'y'?` for the known words that come nearest, whatever their case."""
    scores = {name: _likeness(word.lower(), name.lower()) for name in known}
    least = max(0.6, max(scores.values(), default=0) - 0.1)
    close = sorted((name for name in scores if scores[name] >= least), key=lambda name: -scores[name])
    return f", did you mean {' or '.join(map(repr, close[:3]))}?" if close else ""


def _likeness(word: str, name: str) -> float:
    ratio = difflib.SequenceMatcher(None, word, name).ratio()
    return max(ratio, 0.8) if len(word) > 2 and word in name else ratio


def shorten(text: object, limit: int = 60) -> str:
    """Return the text on one line, cut to `limit` characters, for use inside a message."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
