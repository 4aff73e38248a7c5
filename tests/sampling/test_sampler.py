"""Batches: every sample once, within the budget, longest first, and the same whatever was drawn before."""

from __future__ import annotations

import pytest

from align.sampling.engine import Engine
from align.sampling.generation import Completion, Generation, Request
from align.sampling.sampler import Sampler


class Echo(Engine):
    """Answers with the prompt's name and the sample's number."""

    def generate(self, jobs, settings, round_number=0):
        return [[Completion([1], f"{j.request.id}-{k}-{round_number}", "eos") for k in j.numbers] for j in jobs]


def requests(lengths: list[int]) -> list[Request]:
    return [Request(f"p{i}", [5] * length) for i, length in enumerate(lengths)]


@pytest.mark.parametrize("budget", [1, 50, 200, 10_000])
def test_plans(budget: int) -> None:
    settings = Generation(max_new_tokens=10, num_samples=4, batch_tokens=budget)
    asked = requests([3, 30, 12, 7, 7, 25])
    plan = Sampler(Echo(), settings).plan(asked)
    assert sorted((j.place, k) for b in plan for j in b for k in j.numbers) == [
        (p, k) for p in range(6) for k in range(4)
    ]
    lengths = [len(j.request.ids) for b in plan for j in b]
    assert lengths == sorted(lengths, reverse=True)
    for batch in plan:
        width = max(len(j.request.ids) for j in batch)
        assert sum(width + 10 * len(j.numbers) for j in batch) <= budget or sum(len(j.numbers) for j in batch) == 1
    assert Sampler(Echo(), settings).plan(asked) == plan
    if budget == 10_000:
        assert len(plan) == 1


def test_samples_come_in_the_order_of_the_requests() -> None:
    settings = Generation(max_new_tokens=10, num_samples=2, batch_tokens=60)
    found = Sampler(Echo(), settings, round_number=3).sample(requests([3, 30, 12]), bar=True)
    assert [s.text for s in found] == ["p0-0-3", "p0-1-3", "p1-0-3", "p1-1-3", "p2-0-3", "p2-1-3"]
    assert [(s.prompt, s.number) for s in found] == [(p, k) for p in range(3) for k in range(2)]
    assert all(s.finished for s in found)


def test_a_template_says_what_samples_say() -> None:
    sampler = Sampler(Echo(), Generation(max_new_tokens=10), said=lambda ids, text: f"{text} of {ids}")
    assert [s.text for s in sampler.sample(requests([3, 30]))] == ["p0-0-0 of [1]", "p1-0-0 of [1]"]
