"""The settings of a run's rounds, and what decides them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass

from align.errors import ConfigError
from align.judges.win_rates import WinRates
from align.records import Example, MethodView
from align.rewards.components import Training
from align.rewards.scorers import Direction, Scorer
from align.rounds.against_mixture import AgainstMixture
from align.rounds.conditioning_schedule import ConditioningSchedule
from align.rounds.mixing import Replay
from align.rounds.refused_ahead import check_ahead
from align.rounds.refused_conditions import check_conditions
from align.rounds.selections import PromptSelection, Selection
from align.sampling.engine_kind import EngineKind
from align.sampling.generation import Generation
from align.sampling.logit_mixture import LogitMixture
from align.sampling.server_pool import ServerPool


@dataclass(frozen=True)
class RoundSettings:
    """How a round is made."""

    scorer: Scorer
    selection: Selection
    generation: Generation
    direction: Direction
    prompts: int | None = None
    """Prompts of a round; each round takes the next ones of a shuffled order. Null takes all in every round."""
    parts: int | None = None
    """Into how many parts the shuffled order is cut, each for the next round, in the place of a number of prompts."""
    replay: Replay | None = None
    missing_eos_penalty: float | None = None
    """Subtracted from the reward of a sample that was cut off at its limit; null leaves such samples out."""
    alternate_halves: bool = False
    """Take the two halves of the prompts by turns, so that no prompt is in two rounds that follow each other."""
    conditions: ConditioningSchedule | None = None
    """Sample under conditions, and train under them."""
    engine: ServerPool | EngineKind | None = None
    """What draws; null is our own engine. Another draws from the same policy: a round may go on with it."""
    mixture: LogitMixture | None = None
    """Sample from policy and reference together."""
    whole_weights: bool = False
    """Gather a sharded model whole for every batch of samples, not block by block for every token."""
    refills: int = 0
    """How often prompts that gave no record are replaced by further ones."""
    ahead: int = 0
    """1: a round is drawn while the one before is trained on, by the weights that one began with."""

    def __post_init__(self) -> None:
        check_ahead(self)
        self._check_refills()
        self._check_prompts()
        check_conditions(self)
        penalty = self.missing_eos_penalty
        if penalty is not None and not 0 <= penalty < math.inf:
            raise ConfigError(
                f"missing_eos_penalty is taken off the reward of a sample that was cut off, got {penalty:g}: set it to "
                "0 or more, or to null, which leaves such samples out"
            )
        if self.mixture is not None:
            self.mixture.check(self.generation)
            if self.engine is not None:
                raise ConfigError(
                    "mixture is sampled by our own engine, others have no reference: leave out engine, or mixture"
                )
        if self.whole_weights and self.engine is not None:
            raise ConfigError("whole_weights is for our own engine, others have whole weights anyway: leave it out")
        self.selection.check(self.generation, self.mixture)
        self._check_least()

    def prepare_scorer(self, training: Training) -> None:
        """Let the scorer follow the run.

        Raises an AlignError for what would stop it once samples are drawn, or a direction that it has no scores for.
        """
        self.scorer.follow(training)
        self.scorer.ready()
        if self.conditions is None:  # which name their own rewards, checked with the first round's
            self.direction.check(self.scorer.attributes)

    def check_win_rates(self, view: MethodView | None) -> None:
        """Raise ConfigError for what makes something else of win rates, which SPPO and Nash-MD take as they are.

        They are mean probabilities (Wu et al. 2024, arXiv:2405.00675, section 4.2); the paper has no penalty on them.
        """
        judged = isinstance(self.selection, AgainstMixture) and isinstance(self.scorer, WinRates)
        if view != "win_rates" and not judged:
            return
        place = "align.callbacks.resampling.IterativeResampling"
        if self.missing_eos_penalty:
            raise ConfigError(
                f"{place}.missing_eos_penalty {self.missing_eos_penalty:g} would be taken off win rates, which are "
                "probabilities: set it to 0.0, or leave it out, which drops samples cut off at their limit"
            )
        plain = self.direction.weights in (None, {"win_rate": 1.0}) and not self.direction.gates
        if isinstance(self.scorer, WinRates) and not plain:
            raise ConfigError(
                f"{place}.direction would make something else of win rates, which are probabilities: leave it out, or "
                "set direction.weights to {win_rate: 1.0} without gates"
            )

    def _check_prompts(self) -> None:
        if self.prompts is not None and self.prompts < 1:
            raise ConfigError(f"prompts must be at least 1, got {self.prompts}")
        if self.parts is not None and (self.parts < 1 or self.prompts is not None):
            raise ConfigError(
                f"parts must be at least 1 and stands in the place of prompts, got parts {self.parts} and prompts "
                f"{self.prompts}: set one of them to null"
            )

    def _check_least(self) -> None:
        least, found = self.selection.least, self.generation.num_samples
        if found < least and self.conditions is None:
            raise ConfigError(
                f"selection {type(self.selection).__name__} compares samples of a prompt, generation.num_samples is "
                f"{found}: set it to {least} or more"
            )

    def _check_refills(self) -> None:
        plain = self.conditions is None and not self.alternate_halves and self.prompts is not None
        if self.refills < 0 or (self.refills and not (plain and isinstance(self.selection, PromptSelection))):
            raise ConfigError(
                f"refills {self.refills} is for rounds of some of the prompts, whose samples are selected prompt by "
                "prompt: set `prompts`, leave out conditions and alternate_halves, or set refills to 0"
            )

    def rated(self, number: int) -> bool:
        """Tell whether a round takes the data's own responses, under their ratings."""
        return self.conditions is not None and self.conditions.rated(number)

    def choose(
        self, pool: list[Example], round_number: int, first: int | None = None, left_out: Collection[str] = ()
    ) -> list[Example]:
        """Return the prompts of a round, in the order of hashes; one on the data's own responses takes all.

        `first` is the place at which they begin; null takes that behind rounds which all have `prompts`. `left_out` are
        ids of prompts that no round takes.
        """
        order = self.share(pool, round_number, left_out)
        if self.rated(round_number):
            return order
        turn = round_number // 2 if self.alternate_halves else round_number
        if self.parts is not None:
            return self._part(order, self.parts, turn % self.parts)
        count = min(self.prompts or len(order), len(order))
        if first is None:
            first = turn * count
        return self.following(pool, round_number, first, count, left_out)

    @staticmethod
    def _part(order: list[Example], parts: int, number: int) -> list[Example]:
        """Return one of the parts, which share no prompt and hold all of them together."""
        if parts > len(order):
            raise ConfigError(
                f"parts {parts}: the data has {len(order)} different prompts with room for a response, expected as "
                "many at least"
            )
        return order[len(order) * number // parts : len(order) * (number + 1) // parts]

    def following(
        self, pool: list[Example], round_number: int, first: int, count: int, left_out: Collection[str] = ()
    ) -> list[Example]:
        """Return so many prompts from a place in the order of hashes on, from its start again after the last."""
        order = self.share(pool, round_number, left_out)
        return [order[(first + i) % len(order)] for i in range(count)]

    def share(self, pool: list[Example], round_number: int, left_out: Collection[str] = ()) -> list[Example]:
        """Return the prompts a round may take: of halves the first one in odd rounds, the second in even ones."""
        order = sorted(pool, key=lambda e: hashlib.sha256(repr((self.generation.seed, e.id)).encode()).digest())
        if not self.alternate_halves:
            return [e for e in order if e.id not in left_out]
        if len(order) < 2:
            raise ConfigError(f"alternate_halves: the data has {len(order)} different prompts, expected at least 2")
        middle = (len(order) + 1) // 2
        return [e for e in (order[:middle] if round_number % 2 else order[middle:]) if e.id not in left_out]

    def fingerprint(self, *more: object) -> str:
        """Return a hash of all that decides a round's samples and records, beside its weights."""
        scorer = (type(self.scorer).__name__, self.scorer.lasting_identity)
        parts = (self.generation, scorer, self.selection, self.direction, self.prompts, self.replay)
        mixture: tuple[object, ...] = () if self.mixture is None else (self.mixture,)
        mixture += (self.refills,) if self.refills else ()
        mixture += (f"parts {self.parts}",) if self.parts else ()
        text = repr((*parts, self.missing_eos_penalty, self.alternate_halves, self.conditions, *mixture, *more))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
