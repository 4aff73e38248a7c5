"""Several reward models as one scorer, so that a policy cannot please one of them alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from align.errors import ConfigError, DataError
from align.files import atomic_write_text
from align.records import Example
from align.rewards.components import Component
from align.rewards.scorers import Dialogue, Scorer

Combination = Literal["mean", "minimum", "mean_minus_variance", "mean_minus_deviation", "apart"]
LEAST = 2


class RewardEnsemble(Scorer):
    """Several scorers in one: their mean, their minimum, or their mean less a multiple of their spread.

    Coste et al. 2023 (arXiv:2310.02743): the minimum is worst-case optimisation, the mean less k times the variance
    uncertainty-weighted optimisation. Of every member the first attribute counts. A response that one member cannot
    score has no score. Every member's score is an attribute too, by its name; `apart` gives these alone, for rewards of
    different kinds, by functions, models and judges, that `direction.weights` {right: 1, long: -0.1} add up.
    """

    def __init__(
        self,
        scorers: dict[str, Scorer],
        combine: Combination = "mean",
        *,
        k: float | None = None,
        weights: dict[str, float] | None = None,
        standardise: str | None = None,
    ) -> None:
        """Configure the ensemble.

        Args:
            scorers: The members by name.
            combine: mean, minimum, mean_minus_variance, mean_minus_deviation, or apart for the direction to do it.
            k: How many times the spread is taken off; 1 where left out.
            weights: Of the members in mean and spread, positive; null weighs them alike.
            standardise: JSON file of each member's mean and deviation, by which its scores are put on one scale. Where
                there is none yet, they are measured on the responses of the first call and written there, and all later
                scores, also of other runs that name the file, use them. Null takes the scores as they are, for members
                of one scale, such as seeds of one training.
        """
        names = list(scorers)
        if len(names) < LEAST:
            raise ConfigError(f"scorers: name at least two, got {', '.join(names) or 'none'}")
        if k is not None and (not combine.startswith("mean_minus") or not k >= 0):
            raise ConfigError(f"k must be at least 0 and belongs to mean_minus_..., got {k} with {combine}")
        if weights is not None and combine in ("minimum", "apart"):
            told = "the minimum" if combine == "minimum" else "scores apart, which direction.weights weighs"
            raise ConfigError(f"weights have no effect on {told}: leave them out")
        given = dict.fromkeys(names, 1.0) if weights is None else weights
        if set(given) != set(names) or not all(w > 0 for w in given.values()):
            raise ConfigError(f"weights must be positive and name {', '.join(names)}, got {weights}")
        self.scorers, self.combine, self.k = scorers, combine, 1.0 if k is None else k
        self.weights = [given[name] / sum(given.values()) for name in names]
        self.standardise = None if standardise is None else Path(standardise).expanduser()
        self.attributes = tuple(names) if combine == "apart" else ("ensemble", *names)
        self.compares = any(scorer.compares for scorer in scorers.values())
        self._told = False

    @property
    def identity(self) -> str:
        """Return a hash of the members and of how they are combined."""
        return self._known_by({name: scorer.identity for name, scorer in self.scorers.items()})

    @property
    def lasting_identity(self) -> str:
        """Return the same without what may be mended."""
        return self._known_by({name: scorer.lasting_identity for name, scorer in self.scorers.items()})

    def _known_by(self, members: dict[str, str]) -> str:
        text = repr((members, self.combine, self.k, self.weights, str(self.standardise)))
        return f"ensemble {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def log_odds(self) -> bool:
        """Return whether all members' scores are, and stay as they are."""
        return self.standardise is None and all(scorer.log_odds for scorer in self.scorers.values())

    @property
    def shares(self) -> bool:
        """Return whether all members do, and no file of scales is to be measured on all responses."""
        return self.standardise is None and all(scorer.shares for scorer in self.scorers.values())

    @property
    def parts(self) -> Sequence[Component]:
        """Return the members."""
        return list(self.scorers.values())

    def report(self) -> dict[str, object]:
        """Return what the members tell, by name."""
        return {name: told for name, scorer in self.scorers.items() if (told := scorer.report())}

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return the combined score and each member's, on the common scale."""
        return self._together([scorer.score(prompts, responses) for scorer in self.scorers.values()])

    def score_examples(
        self, examples: Sequence[Example], responses: Sequence[str]
    ) -> Float[Tensor, "response attribute"]:
        """Return the same, of members that may read the columns of the records."""
        return self._together([scorer.score_examples(examples, responses) for scorer in self.scorers.values()])

    def _together(self, found: Sequence[Float[Tensor, "response _"]]) -> Float[Tensor, "response attribute"]:
        scores = self._scaled(torch.stack([columns[:, 0].double() for columns in found], dim=1))
        return scores if self.combine == "apart" else torch.cat([self._combined(scores)[:, None], scores], dim=1)

    def _combined(self, scores: Float[Tensor, "response member"]) -> Float[Tensor, " response"]:
        weights = scores.new_tensor(self.weights)
        mean: Tensor = scores @ weights
        if self.combine == "mean":
            return mean
        if self.combine == "minimum":
            lowest: Tensor = scores.amin(dim=1)
            return lowest
        variance: Tensor = (scores - mean[:, None]) ** 2 @ weights
        return mean - self.k * (variance if self.combine == "mean_minus_variance" else variance.sqrt())

    def _scaled(self, scores: Float[Tensor, "response member"]) -> Float[Tensor, "response member"]:
        if self.standardise is None:
            self._tell_scales(scores)
            return scores
        if not self.standardise.exists():
            self.standardise.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(self.standardise, json.dumps(self._measured(scores), indent=1) + "\n")
        means, deviations = scores.new_tensor(self._read(self.standardise)).T
        scaled: Tensor = (scores - means) / deviations
        return scaled

    def _measured(self, scores: Float[Tensor, "response member"]) -> dict[str, tuple[float, float]]:
        known = scores[~scores.isnan().any(1)]
        spread = known.std(0) if len(known) >= LEAST else known.new_zeros(scores.shape[1])
        if flat := [name for name, value in zip(self.scorers, spread.tolist(), strict=True) if not value > 0]:
            raise DataError(
                f"standardise {self.standardise}: {flat[0]} gives {len(known)} responses one score, expected several "
                "that differ: score more responses in the first call, or write the file by hand"
            )
        return dict(zip(self.scorers, zip(known.mean(0).tolist(), spread.tolist(), strict=True), strict=True))

    def _read(self, path: Path) -> list[list[float]]:
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            rows = [[float(value) for value in kept[name]] for name in self.scorers]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"standardise {path}: expected {{NAME: [mean, deviation]}} of every scorer") from error
        if not all(len(row) == 2 and row[1] > 0 for row in rows):
            raise ConfigError(f"standardise {path}: expected a mean and a positive deviation of every scorer")
        return rows

    def _tell_scales(self, scores: Float[Tensor, "response member"]) -> None:
        """Warn once where the members' scores are of different scales, so that the widest decides alone."""
        known = scores[~scores.isnan().any(1)]
        if self._told or len(known) < LEAST or self.combine == "apart":
            return
        self._told = True
        means, spread = known.mean(0), known.std(0)
        if spread.max() > 3 * spread.min() or means.max() - means.min() > 3 * spread.max():
            told = ", ".join(f"{n} {m:.3g} ± {s:.3g}" for n, m, s in zip(self.scorers, means, spread, strict=True))
            rank_zero_warn(f"RewardEnsemble: members of different scales ({told}): set standardise to a file")
