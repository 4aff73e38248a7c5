"""From comparisons to scores and back: win rates by a judge as a scorer, and any scorer as a judge."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from align.errors import ConfigError
from align.judges.preference import Judge, Preference, better
from align.records import Example
from align.rewards.components import Component
from align.rewards.scorers import Dialogue, Direction, Scorer


class ScorerJudge(Judge):
    """Prefers by any scorer's reward: 1, 1/2 or 0, or graded, the probability of Bradley and Terry."""

    def __init__(self, scorer: Scorer, direction: Direction = Direction(), *, graded: bool = False) -> None:
        """Configure the judge.

        Args:
            scorer: What responses are worth: a reward model, several, a rubric, p(Yes) and so on.
            direction: Which reward its scores make.
            graded: Take sigmoid(r_1 - r_2), not who has more; for rewards whose unit is a log-odds. Other ones, such as
                points of a model of ratings, are told of, unless `direction.weights` puts them on another scale.
        """
        if scorer.compares:
            raise ConfigError(f"ScorerJudge.scorer {type(scorer).__name__} needs a judge itself: give that judge")
        self.scorer, self.direction, self.graded = scorer, direction, graded
        self.name = f"{type(scorer).__name__}{' graded' if graded else ''}"

    @property
    def identity(self) -> str:
        """Return what decides the preferences."""
        return repr((self.scorer.identity, self.direction, self.graded))

    @property
    def parts(self) -> Sequence[Component]:
        """Return the scorer."""
        return (self.scorer,)

    def ready(self) -> None:
        """Raise what the scorer raises; tell of graded preferences by what is no log-odds."""
        super().ready()
        as_they_are = all(abs(weight) == 1 for weight in (self.direction.weights or {}).values())
        if self.graded and as_they_are and not self.scorer.log_odds:
            rank_zero_warn(
                "ScorerJudge.graded takes sigmoid(r_1 - r_2) for a chance, which differences of log-odds give, and the "
                f"scores of {type(self.scorer).__name__} are none: scale them by direction.weights, or leave graded out"
            )

    def report(self) -> dict[str, object]:
        """Return what the scorer tells."""
        return self.scorer.report()

    def prefer(self, prompts: Sequence[Dialogue], first: Sequence[str], second: Sequence[str]) -> list[Preference]:
        """Return preferences; order plays no part. A response without a score makes its pair invalid."""
        return self._preferences(self.scorer.score, list(map(tuple, prompts)), first, second)

    def prefer_examples(
        self, examples: Sequence[Example], first: Sequence[str], second: Sequence[str]
    ) -> list[Preference]:
        """Return the same, of a scorer that may read the columns of the records."""
        return self._preferences(self.scorer.score_examples, examples, first, second)

    def _preferences(
        self, score: Callable[..., Tensor], asked: Sequence[Any], first: Sequence[str], second: Sequence[str]
    ) -> list[Preference]:
        distinct = dict.fromkeys(zip([*asked] * 2, [*first, *second], strict=True))
        rows = score([one for one, _ in distinct], [text for _, text in distinct]).tolist()
        rewards = [self.direction.of(self.scorer.attributes, row) for row in rows]
        known = dict(zip(distinct, rewards, strict=True))
        found = []
        for one, a, b in zip(asked, first, second, strict=True):
            left, right = known[one, a], known[one, b]
            chance = 0.5 * (1 + math.tanh((left - right) / 2)) if self.graded else better(left, right)
            found.append(Preference(chance, chance))
        return found


class WinRates(Scorer):
    """The win rate of each response over all responses to its prompt, by pairwise comparisons of a judge.

    Wu et al. 2024 (SPPO, arXiv:2405.00675), section 4.2: the mean over the K samples of P(y beats y_k), itself included
    at one half. Every pair is compared once, by the mean of both orders where the judge has orders. An invalid
    comparison is left out of the means of both; a response without a valid one has no score.
    """

    attributes = ("win_rate",)
    compares = True

    def __init__(self, judge: Judge) -> None:
        """Configure the scorer.

        Args:
            judge: Who compares: LanguageJudge, ScorerJudge, RewardJudge or GoldJudge.
        """
        self.judge = judge

    @property
    def identity(self) -> str:
        """Return what decides the comparisons."""
        own = repr((type(self.judge).__name__, self.judge.identity))
        return f"win rates {hashlib.sha256(own.encode()).hexdigest()[:16]}"

    @property
    def parts(self) -> Sequence[Component]:
        """Return the judge."""
        return (self.judge,)

    def report(self) -> dict[str, object]:
        """Return what the judge tells."""
        return self.judge.report()

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return win rates among the responses of this call to the same prompt."""
        return self._rates(self.judge.prefer, prompts, prompts, responses)

    def score_examples(
        self, examples: Sequence[Example], responses: Sequence[str]
    ) -> Float[Tensor, "response attribute"]:
        """Return the same, by a judge that may read the columns of the records."""
        return self._rates(self.judge.prefer_examples, examples, [e.messages for e in examples], responses)

    def _rates(
        self,
        prefer: Callable[..., list[Preference]],
        asked: Sequence[Any],
        prompts: Sequence[Dialogue],
        texts: Sequence[str],
    ) -> Float[Tensor, "response attribute"]:
        groups: dict[str, list[int]] = {}
        for place, prompt in enumerate(prompts):
            groups.setdefault(json.dumps([m.as_turn() for m in prompt]), []).append(place)
        pairs = [(i, j) for group in groups.values() for n, i in enumerate(group) for j in group[n + 1 :]]
        first, second = [texts[i] for i, _ in pairs], [texts[j] for _, j in pairs]
        found = iter(prefer([asked[i] for i, _ in pairs], first, second) if pairs else [])
        rates = torch.full((len(texts), 1), math.nan, dtype=torch.float64)
        for group in groups.values():
            rates[group, 0] = win_rates(_chances(len(group), found))
        return rates


def refuse_win_rates(scorer: Component | None, way_out: str) -> None:
    """Raise ConfigError for a scorer that is, or asks, WinRates, where the samples of one model alone are scored."""
    if isinstance(scorer, WinRates):
        raise ConfigError(
            "scorer WinRates compares the samples of one model with each other, so that their mean is 1/2 whatever "
            f"they are: {way_out}"
        )
    for part in () if scorer is None else scorer.parts:
        refuse_win_rates(part, way_out)


def _chances(size: int, found: Iterator[Preference]) -> Float[Tensor, "candidate candidate"]:
    """Return the chances of one prompt's responses against each other, of its pairs in their order."""
    chances = torch.full((size, size), math.nan, dtype=torch.float64)
    for i in range(size):
        for j in range(i + 1, size):
            chance = next(found).probability
            chances[i, j], chances[j, i] = chance, 1 - chance
    return chances


def win_rates(preferences: Float[Tensor, "candidate candidate"]) -> Float[Tensor, " candidate"]:
    """Return each candidate's mean probability against all, itself included at one half (arXiv:2405.00675, 4.2).

    `preferences[i, j]` is the probability that i beats j, NaN where it is not known; the diagonal is not read. A
    candidate without a known comparison gets NaN.
    """
    others = ~torch.eye(len(preferences), dtype=torch.bool, device=preferences.device)
    known = others & ~preferences.isnan()
    sums = preferences.where(known, preferences.new_zeros(())).sum(1) + 0.5
    return (sums / (known.sum(1) + 1)).where(known.any(1), preferences.new_tensor(math.nan))
