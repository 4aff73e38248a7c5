"""A reward model that is trained again beside a run: read anew before a round is scored, where its files changed."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_info

from align.errors import ConfigError, ModelError
from align.models.folder_checks import local_folder
from align.rewards.scorers import RewardFolder

READ = ("oracle", "attributes", "identity")
"""What is kept of a folder."""


class RefreshedRewardFolder(RewardFolder):
    """A reward model folder that may be replaced by a newer one while a run goes on.

    Before the samples of a round are scored it is looked at, and read anew where files changed; all scores of a round
    are by one model, whose hash stands beside them. Put a whole folder in its place, by renaming or by a link: a model
    that is written while it is read ends the run, with what was drawn kept.
    """

    def __init__(self, path: str, max_tokens: int | None = None) -> None:
        """Name the folder.

        Args:
            path: A folder on this machine that `RewardModel` exported, any sequence classifier, or a link to one.
            max_tokens: Longest dialogue that is read whole; null takes that of its training, or the model's context.
        """
        super().__init__(path, max_tokens)
        self._stamp: tuple[object, ...] = ()

    @property
    def lasting_identity(self) -> str:
        """Return the path: a round that goes on may do so with a newer model, by which all of it is scored anew."""
        return self.path

    def refresh(self) -> None:
        """Read the model anew where its files are others.

        Raises ConfigError for a hub id, ModelError where outputs differ or the files change meanwhile.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return
        before = (self.identity, self.attributes) if self._stamp else None
        for name in READ:
            self.__dict__.pop(name, None)
        self.ready()
        now = self.identity, self.attributes
        if before is not None and before[1] != now[1]:
            raise ModelError(
                f"{self.path} was replaced by a reward model with other outputs: {', '.join(now[1])}, expected "
                f"{', '.join(before[1])}"
            )
        assert self.oracle
        if self._look() != stamp:
            raise ModelError(
                f"{self.path} was written to while it was read: put whole folders in its place, by renaming, then give "
                "the same command again"
            )
        self._stamp = stamp
        if before is not None and before[0] != now[0]:
            rank_zero_info(
                f"{self.path} is another reward model now: {before[0][:12]} before, {now[0][:12]} from here on"
            )

    def report(self) -> dict[str, object]:
        """Return which model scored."""
        return {"reward_model": self.path, "hash": self.identity}

    def _look(self) -> tuple[object, ...]:
        folder = local_folder(self.path)
        if folder is None:
            raise ConfigError(f"RefreshedRewardFolder.path: expected a folder that may be replaced, got {self.path}")
        files = sorted(folder.resolve().iterdir())
        return tuple((str(f), s.st_ino, s.st_size, s.st_mtime_ns) for f in files if (s := f.stat()))
