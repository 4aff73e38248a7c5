"""Who answers a judge's questions: the interface, and the body of an answer as servers of the OpenAI kind write it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from align.judges.judge_prompts import JudgeRequest
from align.judges.verdict_store import Spent, VerdictStore
from align.rewards.components import Component

Progress = Callable[[int], object]


class ChatBackend(Component, ABC):
    """A language model that answers questions."""

    @property
    def name(self) -> str:
        """Return what the model is called beside its replies."""
        return str(self.settings()["model"])

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return all that decides an answer beside the question: model, temperature and so on."""

    @abstractmethod
    def answer(self, questions: Sequence[JudgeRequest], store: VerdictStore, progress: Progress) -> None:
        """Ask every question once and commit each raw reply to the store as it arrives.

        Raises ServiceStopped when the rest can be asked later, JudgeError when it cannot.
        """

    def served_by(self, model: str) -> bool:
        """Return whether an answer under this name is one of the model that was asked."""
        return True

    def cost(self, spent: Spent) -> float | None:
        """Return what requests have cost, None where no price is known."""
        return None
