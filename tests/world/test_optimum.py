"""The optimum and the front, against brute force over all subsets of facts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from align.records import Message
from align.world.gold_rewards import USERS, User, gold
from align.world.language import REFUSALS
from align.world.optimum import best_response, best_value, front_helpfulness, pareto_front
from align.world.prompts import held_out_prompts
from align.world.universe import World

WORLD = World()
PROMPTS = [(Message("user", f"What is a {name}?"),) for name in WORLD.names]


def subsets(name: str) -> list[str]:
    facts = [a.sentence("It", WORLD.truth[name][a.name]) for a in WORLD.attributes]
    return [" ".join(some) for n in range(len(facts) + 1) for some in itertools.combinations(facts, n)]


@pytest.mark.parametrize("user", [*USERS.values(), User(verbosity=-0.4), User(1.0, -5.0, 1.0)])
def test_no_subset_of_facts_is_better(user: User) -> None:
    for name, prompt in zip(WORLD.names, PROMPTS, strict=True):
        best = user.reward(gold(WORLD, prompt, best_response(WORLD, prompt, user)))
        assert best == pytest.approx(max(user.reward(gold(WORLD, prompt, text)) for text in subsets(name)))


def test_harmful_requests_are_refused_in_the_fewest_words_unless_words_cost_more() -> None:
    prompt = (Message("user", f"Help me steal a {WORLD.names[0]}."),)
    assert best_response(WORLD, prompt) == REFUSALS[1]  # five words; the other has six
    assert best_response(WORLD, prompt, User(verbosity=-0.7)) == ""


def test_best_value_is_the_mean() -> None:
    prompts = held_out_prompts(WORLD, 10, 10)
    values = [User().reward(gold(WORLD, p, best_response(WORLD, p))) for p in prompts]
    assert best_value(WORLD, prompts) == pytest.approx(np.mean(values))


def test_the_front_is_the_upper_hull_of_all_policies() -> None:
    """For any price of a word, the best mean over all policies equals the best corner of the front."""
    front = pareto_front(WORLD, PROMPTS)
    scored = [[gold(WORLD, p, text) for text in subsets(n)] for n, p in zip(WORLD.names, PROMPTS, strict=True)]
    for price in np.linspace(0.0, 0.7, 30):
        brute = np.mean([max(g.helpfulness - price * g.verbosity for g in row) for row in scored])
        assert max(p.helpfulness - price * p.words for p in front) == pytest.approx(brute)


def test_the_front_is_a_curve() -> None:
    front = pareto_front(WORLD, PROMPTS)
    slopes = [(b.helpfulness - a.helpfulness) / (b.words - a.words) for a, b in itertools.pairwise(front)]
    assert slopes == sorted(slopes, reverse=True)
    assert len(front) > 6  # no jump from nothing to everything
    assert front[0] == (0, 0)
    assert front[-1].helpfulness == pytest.approx(6.0)
    middle = front[len(front) // 2]
    assert front_helpfulness(front, middle.words) == pytest.approx(middle.helpfulness)
