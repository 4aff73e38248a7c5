"""What models reach in the synthetic world: exact rewards on held-out prompts, and what the untouched base reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from align.errors import ConfigError
from align.evaluation.gold_evaluation import SAMPLED, GoldReport, evaluate_gold
from align.evaluation.matched_temperature import MatchedTemperature, SampledEntropy, UnreachedTarget, sampled_entropy
from align.evaluation.policy import Policy
from align.evaluation.statistics import nested_interval
from align.evaluation.world_best_of import best_of_gold
from align.evaluation.world_rewards import WorldRewards
from align.world.gold_rewards import SENTENCE, read, request_of
from align.world.prompts import held_out_prompts
from align.world.universe import Prompt, World

ENTROPY_TOLERANCE = 0.01
"""How near the entropies per token of two models have to be to count as equal, in nats."""
KL_TOLERANCE = 0.05
"""How near their KL divergences to the base have to be, in nats a response."""


Equal = Literal["entropy", "kl"]
"""What the base has in common with a model it is compared with."""


@dataclass(frozen=True)
class WorldPrompts:
    """How many held-out prompts are asked."""

    harmless: int = 160
    """Prompts that should be answered."""
    harmful: int = 60
    """Prompts that should be refused."""
    after: int = 0
    """Take those that come after so many of either kind: a search is tuned on other prompts than its result is
    measured on where this is no smaller than both numbers of the measure, 160 say."""

    def __post_init__(self) -> None:
        if low := next((name for name, value in vars(self).items() if value < 0), None):
            raise ConfigError(f"prompts.{low} must not be negative, got {getattr(self, low)}")

    def of(self, world: World, split: Literal["val", "test"] = "val") -> list[Prompt]:
        """Return them, the harmless ones first. Raises ConfigError when there are too few."""
        harmless, harmful = self.harmless + self.after, self.harmful + self.after
        found = held_out_prompts(world, harmless, harmful, split=split)
        return [*found[self.after : harmless], *found[harmless + self.after :]]


class WorldBenchmark:
    """Measures models on the same prompts, and the base they were trained from at other temperatures."""

    def __init__(
        self,
        base: Policy,
        prompts: WorldPrompts,
        world: World = World(),
        *,
        rewards: WorldRewards = WorldRewards(),
    ) -> None:
        """Prepare it; nothing is measured yet.

        Args:
            base: The model training started from; it is given the prompts alone.
            prompts: How many.
            world: The universe they are about.
            rewards: Reward models that are asked about the same samples.
        """
        self.rewards = rewards
        self.base, self.world, self.counts = base.with_model(base.model), world, prompts
        self.prompts = prompts.of(world)
        self._reports: dict[float, tuple[GoldReport, SampledEntropy]] = {}
        self._searches = {
            "entropy": MatchedTemperature(lambda t: self._spread_of_base(t).per_token, tolerance=ENTROPY_TOLERANCE),
            "kl": MatchedTemperature(self._base_kl, tolerance=KL_TOLERANCE, highest=1.0),
        }

    def measure(
        self, policy: Policy, temperatures: Sequence[float] = (), *, held_out_entities: bool = False
    ) -> dict[str, Any]:
        """Return what a model reaches at temperature 1, asked as its folder says, and its KL divergence to the base.

        Args:
            policy: The model.
            temperatures: Others it is measured at, under `temperatures`; that of 0 is `greedy` too.
            held_out_entities: Ask about entities that no training saw, too.
        """
        report = self._evaluated(policy, base=self.base.model)
        found: dict[str, Any] = {**report.as_dict(), **_interval(report), "best": report.best}
        found["flattery"] = flattery(self.world, report)
        found |= {"readable": readable(self.world, report), "rewards": [answer.reward for answer in report.answers]}
        found |= {"per_prompt": SAMPLED.num_samples, "entropy": self._spread(policy, report).per_token}
        found |= self.rewards.told(report)
        found["temperatures"] = {f"{t:g}": self._at(policy, t) for t in temperatures if t != 1}
        if "0" in found["temperatures"]:
            found["greedy"] = found["temperatures"]["0"]["reward"]
            report.by_prompt["greedy"] = found["temperatures"]["0"]["by_prompt"]["reward"]
        if held_out_entities:
            others = self._evaluated(policy, self.counts.of(self.world, "test"))
            found["held_out_entities"] = others.reward.value
        return {**found, "by_prompt": report.by_prompt}

    def base_at(self, equal: Equal, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the untouched base reaches where it equals a model, and what the model has beyond it.

        At equal entropy per token it is as sharp; at equal KL divergence to itself at temperature 1, by sharpening
        alone, it has moved as far. A reward that comes of sharpening is not taken for learning then. A method may gain
        reward and entropy at once, which makes the first an easy comparison: see both, and greedy answers. Where no
        temperature gives the value, `unreached` says so, and all else is null.

        Args:
            equal: `entropy` or `kl`.
            found: What `measure` says of the model.
        """
        search = self._searches[equal]
        search.value(1.0)  # a model that is as sharp as the base is compared with it as it is
        try:
            temperature = search.find(found[equal])
        except UnreachedTarget as error:
            empty = dict.fromkeys(("temperature", "reward", "low", "high", "entropy", "kl", "gain"))
            return {**empty, "unreached": str(error)}
        report, spread = self._reports[temperature]
        gains = np.asarray(found["by_prompt"]["reward"]) - np.asarray(report.by_prompt["reward"])
        gain = nested_interval(gains, report.entities)
        return {
            "temperature": temperature,
            "reward": report.reward.value,
            **_interval(report),
            "entropy": spread.per_token,
            "kl": float(spread.log_ratios.mean()),
            "gain": gain.value,
            "gain_low": gain.low,
            "gain_high": gain.high,
            "by_prompt": {"reward": report.by_prompt["reward"], "gain": gains.tolist()},
        }

    def best_of(self, policy: Policy, sizes: Sequence[int]) -> dict[str, Any]:
        """Return what the best of n samples of a model is worth, chosen by gold and by each reward model."""
        report = self._evaluated(policy, generation=replace(SAMPLED, num_samples=max(sizes)))
        return best_of_gold(report, self.rewards.scores(report), sizes)

    @property
    def entities(self) -> list[str]:
        """Return what each prompt is about: values of one entity are not independent."""
        return [request_of(self.world, prompt).entity for prompt in self.prompts]

    def _spread_of_base(self, temperature: float) -> SampledEntropy:
        if temperature not in self._reports:
            report = self._evaluated(self.base, generation=SAMPLED.at(temperature))
            self._reports[temperature] = report, self._spread(self.base, report, temperature)
        return self._reports[temperature][1]

    def _base_kl(self, temperature: float) -> float:
        return float(self._spread_of_base(temperature).log_ratios.mean())

    def _spread(self, policy: Policy, report: GoldReport, temperature: float = 1.0) -> SampledEntropy:
        with policy.asking.steering(policy.model):
            return sampled_entropy(policy.model, *report.drawn, temperature)

    def _at(self, policy: Policy, temperature: float) -> dict[str, Any]:
        report = self._evaluated(policy, generation=SAMPLED.at(temperature))
        found = {**report.as_dict(), **_interval(report), "by_prompt": report.by_prompt}
        return {**found, **self.rewards.told(report)}

    def _evaluated(self, policy: Policy, prompts: Sequence[Prompt] | None = None, **options: Any) -> GoldReport:
        given = self.prompts if prompts is None else prompts
        asked = [tuple(policy.asking.apply(prompt)) for prompt in given]
        with policy.asking.steering(policy.model):
            return evaluate_gold(policy.model, policy.tokenizer, self.world, given, asked=asked, **options)


def readable(world: World, report: GoldReport) -> float:
    """Return the share of the sentences that say something in the world's language."""
    readings = [read(world, request_of(world, answer.prompt).entity, answer.text) for answer in report.answers]
    sentences = sum(len(SENTENCE.findall(answer.text)) for answer in report.answers)
    return 1 - sum(reading.unreadable for reading in readings) / max(sentences, 1)


def flattery(world: World, report: GoldReport) -> float:
    """Return the flattering sentences of an answer, on average: world 1 has none."""
    readings = [read(world, request_of(world, answer.prompt).entity, answer.text) for answer in report.answers]
    return sum(reading.flattering for reading in readings) / len(readings)


def _interval(report: GoldReport) -> dict[str, float]:
    return {"low": report.reward.low, "high": report.reward.high}
