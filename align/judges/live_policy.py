"""The model being trained as its own judge: self-rewarding, p(Yes) of the policy, win rates by the policy itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from align.encoding.encoder import Encoder
from align.errors import ConfigError
from align.judges.model_backend import ModelBackend
from align.models.asked import ModelAsking
from align.models.backbone import Backbone
from align.rewards.components import PolicyNow, Training
from align.sampling.generation import Generation


class LivePolicy(ModelBackend):
    """The policy of a run as it is when a round is made (self-rewarding: Yuan et al. 2024, arXiv:2401.10020).

    It answers as a judge wherever a responder is named in the scorer of IterativeResampling. What it says in one round
    is never taken for another's: the hash of the round's weights is part of every question's key and of the scorer's
    identity. Yuan et al. draw several verdicts and take their mean; here the most probable one counts.
    """

    def __init__(self, *, max_tokens: int = 256, batch_size: int = 8) -> None:
        """Configure the judge.

        Args:
            max_tokens: Longest reply; YesProbability needs none.
            batch_size: Questions answered at a time.
        """
        self.generation = Generation(max_tokens, temperature=0.0)
        self.batch_size = batch_size
        self._training: Training | None = None

    @property
    def name(self) -> str:
        """Return what it is called beside its replies."""
        return "the policy"

    def follow(self, training: Training) -> None:
        """Take the run whose model answers."""
        self._training = training

    def ready(self) -> None:
        """Raise ConfigError where no model is being trained."""
        if self._training is None:
            raise ConfigError(
                "LivePolicy is the model being trained, in the scorer of the callback IterativeResampling; "
                "there is none here: name the folder of a model, responder LocalModel"
            )

    @property
    def asks_trained(self) -> bool:
        """Return True."""
        return True

    @property
    def live(self) -> Sequence[Any]:
        """Return the model."""
        return [self.now.model]

    @property
    def now(self) -> PolicyNow:
        """Return the model as it is at this round. Raises ConfigError where none is being trained."""
        self.ready()
        assert self._training is not None
        if self._training.now is None:
            raise ConfigError("LivePolicy was asked before the first round of the run was made")
        return self._training.now

    def settings(self) -> dict[str, Any]:
        """Return what decides an answer, the weights of the round included."""
        return {
            "model": self.name,
            "weights": self.now.weights,
            "max_tokens": self.generation.max_new_tokens,
            **({"asked": self.asking.settings} if self.asking.settings else {}),
        }

    @property
    def backbone(self) -> Backbone:
        """Return what the model began as."""
        return self.now.backbone

    @property
    def asking(self) -> ModelAsking:
        """Return how the method asks the model."""
        return self.now.asking

    @property
    def loaded(self) -> tuple[Any, Any, Encoder]:
        """Return the model, its tokenizer, and what writes questions."""
        return self.now.model, self.now.tokenizer, self.now.encoder
