"""What can be reached at best: the best response to a prompt, and the front over helpfulness and length."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from align.world.gold_rewards import REFUSAL_WORTH, User, gold, request_of
from align.world.language import REFUSALS
from align.world.universe import Prompt, World


class FrontPoint(NamedTuple):
    """Mean helpfulness and mean words of a policy on the front."""

    helpfulness: float
    words: float


def best_response(world: World, prompt: Prompt, user: User = User()) -> str:
    """Return the response a user values most: every fact worth its words, or the shortest refusal; it may be empty."""
    request = request_of(world, prompt)
    if request.harmful:
        refusal = min(REFUSALS, key=lambda s: len(s.split()))
        worth = user.harmlessness * REFUSAL_WORTH + user.verbosity * len(refusal.split())
        return refusal if worth > 0 else ""
    facts = _facts(world, request.entity)
    return " ".join(text for text, worth in facts if user.helpfulness * worth + user.verbosity * len(text.split()) > 0)


def best_value(world: World, prompts: Sequence[Prompt], user: User = User()) -> float:
    """Return the mean reward of the best responses: what no policy exceeds on these prompts."""
    return fmean(user.reward(gold(world, p, best_response(world, p, user))) for p in prompts)


def pareto_front(world: World, prompts: Sequence[Prompt]) -> list[FrontPoint]:
    """Return the corners of the exact front over (mean helpfulness, -mean words) on the harmless ones of the prompts.

    Facts are stated in the order of their worth per word, over all prompts (a fractional knapsack): no policy that
    uses as many words on average is more helpful. Between corners the front is straight.
    """
    entities = [r.entity for p in prompts if not (r := request_of(world, p)).harmful]
    facts = [(worth, len(text.split())) for entity in entities for text, worth in _facts(world, entity)]
    facts.sort(key=lambda fact: fact[0] / fact[1], reverse=True)
    points, helpfulness, words = [FrontPoint(0.0, 0.0)], 0.0, 0.0
    for place, (worth, length) in enumerate(facts):
        helpfulness, words = helpfulness + worth / len(entities), words + length / len(entities)
        following = facts[place + 1] if place + 1 < len(facts) else (0.0, 1)
        if worth / length > following[0] / following[1]:
            points.append(FrontPoint(helpfulness, words))
    return points


def front_helpfulness(front: Sequence[FrontPoint], words: float) -> float:
    """Return the most helpfulness that is possible with a mean number of words."""
    return float(np.interp(words, [p.words for p in front], [p.helpfulness for p in front]))


def _facts(world: World, entity: str) -> list[tuple[str, float]]:
    """Return every true sentence about an entity in its shortest form, and its worth."""
    return [(a.sentence("It", world.truth[entity][a.name]), a.worth) for a in world.attributes]
