"""What a preference module asks of the losses of its objective, whether that takes pairs or single responses."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from align.records import CandidateBatch, ResponseScores, Step
from align.scoring import TokenStates
from align.training.reference_policy import ReferencedModule


class PreferenceLosses(ABC):
    """Puts a batch to an objective: one loss for each group, and what is logged of them."""

    collisions: bool = False
    """Whether the scores have to tell how likely two draws of a token are the same."""

    def build(self, module: ReferencedModule, policy: nn.Module) -> None:
        """Make what the objective needs beside the policy. Raises ConfigError where the reference cannot serve it."""

    def check(self, module: ReferencedModule) -> None:
        """Look at data and strategy before the first step. Raises ConfigError where the objective cannot be trained."""

    def check_labels(self, batch: CandidateBatch) -> None:
        """Look at the labels of a batch that is still on the CPU. Raises DataError where they are no use."""

    @abstractmethod
    def begin_step(self, module: ReferencedModule, step: Step) -> None:
        """Compute what the objective reads of the whole step."""

    def end_step(self) -> None:
        """Forget it."""

    @abstractmethod
    def __call__(
        self, module: ReferencedModule, batch: CandidateBatch, states: TokenStates, scores: ResponseScores
    ) -> Float[Tensor, " group"]:
        """Return the loss of each group for the policy's states and scores, and record metrics."""
