"""Which rows of the data a check looks at, and what is cut of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from align.checks.checked_rows import cut, rows_to_check
from align.records import EncodedGroup


class Table:
    def __init__(self, groups: list[EncodedGroup]) -> None:
        self.groups = groups
        self.sizes = np.array([len(g.response_ids) for g in groups])
        self.longest_responses = np.array([max(map(len, g.response_ids)) for g in groups])

    def __getitem__(self, indices: Any) -> list[EncodedGroup]:
        return [self.groups[i] for i in indices]


def group(prompt: int, *responses: int) -> EncodedGroup:
    n = len(responses)
    ids = [list(range(length)) for length in responses]
    return EncodedGroup(f"{prompt}", list(range(prompt)), ids, list(range(n)), [[]] * n, 1.0, [False] * n)


DIALOGUE = group(20, 30)._replace(response_weights=[[0.0] * 10 + [1.0] * 7 + [0.0] * 5 + [0.5] * 8])
"""Two of its turns are scored."""


def test_a_prompt_is_checked_under_its_instruction() -> None:
    instructed = group(4, 6, 3)._replace(instructed_ids=[list(range(50, 60)), list(range(30, 38))])
    plain, under = rows_to_check(Table([instructed, instructed]), 1000)
    assert (plain.prompt_ids, under.prompt_ids) == (list(range(4)), list(range(50, 60)))
    assert rows_to_check(Table([instructed]), 1000)[0].prompt_ids == list(range(50, 60))


def test_a_cut_dialogue_keeps_what_is_scored_of_it() -> None:
    assert cut(DIALOGUE, 48, 1).response_weights == [DIALOGUE.response_weights[0][:28]]
    assert cut(DIALOGUE, 16, 1).response_weights == ()  # no scored token is left: all are


def test_rows_are_the_widest_group_and_the_longest_response() -> None:
    table = Table([group(5, 3, 4), group(6, 2, 3, 4), group(7, 40), group(9, 3)])
    assert [g.id for g in rows_to_check(table, 1000)] == ["6", "7"]
    assert [g.id for g in rows_to_check(Table(table.groups[:1]), 1000)] == ["5"]


@pytest.mark.parametrize("tokens", [48, 200, 2048])
def test_a_cut_group_costs_no_more_than_it_may(tokens: int) -> None:
    for long in (group(3000, 5, 900, 7, 800, 30, 2000), group(10, 3000, 2), group(3000, 3), group(2, 2, 3)):
        short = cut(long, tokens, 2)
        assert sum(len(short.prompt_ids) + len(r) for r in short.response_ids) <= max(tokens, 16)
        assert max(map(len, short.response_ids)) >= min(max(map(len, long.response_ids)), 2)
        assert short.prompt_ids == long.prompt_ids[-len(short.prompt_ids) :]
        assert len(short.response_ids) == len(short.ranks) == len(short.truncated)
        assert len(short.response_ids) > 1 or len(long.response_ids) == 1
