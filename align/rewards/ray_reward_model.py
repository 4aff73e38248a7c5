"""A reward model that workers on a Ray cluster read with: dialogues are encoded here, batches are scored there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from align.models.folder_checks import local_folder
from align.models.foreign_code import is_trusted, trust_foreign_code
from align.models.reward_file import Reading
from align.models.tokenizer import choose_pad_token
from align.records import EncodedGroup
from align.rewards.reward_model_scorer import Prompts, RewardModelScorer
from align.workers.ray_session import RaySession

FOR_WORKERS = 8192
"""Samples of a round that are scored in a call, for which workers load the model anew."""


class Part(NamedTuple):
    """Dialogues of one forward pass, and their prompts by id."""

    groups: list[EncodedGroup]
    prompts: Prompts


@dataclass(frozen=True)
class WorkerRewards:
    """Makes, on a worker, what scores parts: the reward model of a folder."""

    folder: str
    attributes: tuple[str, ...]
    reading: Reading
    trusted: bool
    """Whether the command line lets folders bring code of their own."""

    def __call__(self) -> Callable[[Part], Float[Tensor, "response attribute"]]:
        """Load the model and return what scores a part with it."""
        trust_foreign_code(self.trusted)
        model = RewardModelScorer(self.folder, attributes=self.attributes, reading=self.reading)
        return lambda part: model.read(part.groups, [part.groups], part.prompts)[0]


class RayRewardModel(RewardModelScorer):
    """Scores as `RewardModelScorer` does, to the bit: the same dialogues share a forward pass, each by one worker."""

    def __init__(self, folder: str, session: RaySession, *, max_tokens: int | None = None) -> None:
        """Read the folder's files but its weights.

        Args:
            folder: A model or adapter folder that workers read too, or a hub id.
            session: The workers.
            max_tokens: As for `RewardModelScorer`.
        """
        self.session = session
        super().__init__(folder, max_tokens=max_tokens, device="cpu")

    def _loaded(self, tokenizer: Any, outputs: Sequence[str]) -> nn.Module:
        """Return no model; the tokenizer gets the padding token that a model would give it."""
        tokenizer.pad_token = choose_pad_token(tokenizer) or "<pad>"
        return nn.Identity()

    def read(
        self, groups: list[EncodedGroup], parts: Sequence[list[EncodedGroup]], prompts: Prompts
    ) -> list[Float[Tensor, "response attribute"]]:
        """Return the scores of every part, whichever worker scored it."""
        path = local_folder(self.backbone.path)
        whole = self.backbone.path if path is None else str(path.resolve())
        make = WorkerRewards(whole, self.attributes, self.reading, is_trusted())
        tasks = [Part(part, {int(group.id): prompts[int(group.id)] for group in part}) for part in parts]
        found = dict(self.session.run(make, tasks))
        return [found[place] for place in range(len(parts))]
