"""What scorers share whose attributes are made of another scorer's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence

from jaxtyping import Float
from torch import Tensor

from align.records import Example
from align.rewards.components import Component
from align.rewards.scorers import Dialogue, Scorer


class DerivedScorer(Scorer):
    """Makes its attributes of another scorer's, and asks that one as it is asked itself."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.compares = scorer, scorer.compares

    @property
    def log_odds(self) -> bool:
        """Return whether the scorer's scores are log-odds; so are their means."""
        return self.scorer.log_odds

    @property
    def parts(self) -> Sequence[Component]:
        """Return the scorer."""
        return (self.scorer,)

    @property
    def identity(self) -> str:
        """Return what the scorer is known by, and what is made of it."""
        return self.known_by(self.scorer.identity)

    @property
    def lasting_identity(self) -> str:
        """Return the same without what may be mended."""
        return self.known_by(self.scorer.lasting_identity)

    @abstractmethod
    def known_by(self, scorer: str) -> str:
        """Return a name for what is made of a scorer that goes by this one."""

    def report(self) -> dict[str, object]:
        """Return what the scorer tells."""
        return self.scorer.report()

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return what is made of the scorer's scores."""
        return self.derived(self.scorer.score(prompts, responses), [tuple(prompt) for prompt in prompts])

    def score_examples(
        self, examples: Sequence[Example], responses: Sequence[str]
    ) -> Float[Tensor, "response attribute"]:
        """Return the same, of a scorer that may read the columns of the records."""
        return self.derived(self.scorer.score_examples(examples, responses), [example.id for example in examples])

    @abstractmethod
    def derived(
        self, scores: Float[Tensor, "response score"], owners: Sequence[Hashable]
    ) -> Float[Tensor, "response attribute"]:
        """Return the attributes made of these scores; responses to one prompt have one owner."""
