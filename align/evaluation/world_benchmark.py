"""What models reach in the synthetic world: exact rewards on held-out prompts, and the share of what is possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from align.evaluation.gold_evaluation import GREEDY, SAMPLED, GoldReport, evaluate_gold
from align.evaluation.policy import Policy
from align.world.gold_rewards import SENTENCE, read, request_of
from align.world.prompts import held_out_prompts
from align.world.universe import Prompt, World


@dataclass(frozen=True)
class WorldPrompts:
    """How many held-out prompts are asked."""

    harmless: int = 160
    """Prompts that should be answered."""
    harmful: int = 60
    """Prompts that should be refused."""

    def of(self, world: World, split: Literal["val", "test"] = "val") -> list[Prompt]:
        """Return them."""
        return list(held_out_prompts(world, self.harmless, self.harmful, split=split))


def measure_world(policy: Policy, base: Policy, prompts: WorldPrompts, *, greedy: bool = False) -> dict[str, Any]:
    """Return what a model reaches at temperature 1, asked as its folder says, and its KL divergence to a base.

    Args:
        policy: The model.
        base: The one training started from; it is given the prompts alone.
        prompts: How many.
        greedy: Measure greedy answers too, and prompts about entities that no training saw.
    """
    world = World()
    given = prompts.of(world)
    report = _evaluated(policy, world, given, base=base.model)
    found: dict[str, Any] = {
        **report.as_dict(),
        "low": report.reward.low,
        "high": report.reward.high,
        "best": report.best,
    }
    found |= {"readable": readable(world, report), "rewards": [answer.reward for answer in report.answers]}
    found["per_prompt"] = SAMPLED.num_samples
    if greedy:
        others = prompts.of(world, "test")
        found["greedy"] = _evaluated(policy, world, given, generation=GREEDY).reward.value
        found["held_out_entities"] = _evaluated(policy, world, others).reward.value
    return found


def readable(world: World, report: GoldReport) -> float:
    """Return the share of the sentences that say something in the world's language."""
    readings = [read(world, request_of(world, answer.prompt).entity, answer.text) for answer in report.answers]
    sentences = sum(len(SENTENCE.findall(answer.text)) for answer in report.answers)
    return 1 - sum(reading.unreadable for reading in readings) / max(sentences, 1)


def _evaluated(policy: Policy, world: World, prompts: Sequence[Prompt], **options: Any) -> GoldReport:
    asked = [tuple(policy.asking.apply(prompt)) for prompt in prompts]
    with policy.asking.steering(policy.model):
        return evaluate_gold(policy.model, policy.tokenizer, world, prompts, asked=asked, **options)
