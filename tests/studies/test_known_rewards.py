"""The rewards of the study `known_rewards`, on texts counted by hand."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.studies.things import program


@pytest.fixture(scope="module")
def rewards() -> ModuleType:
    return program("known_rewards", "rewards")


def test_the_grade_is_the_formula(rewards: ModuleType) -> None:
    # The/el-e-phant/re-mem-bered/ev-ery/col-or-ful/gar-den: 6 words in 1 sentence, 1 + 3 + 3 + 3 + 3 + 2 groups of vowels
    expected = 0.39 * 6 / 1 + 11.8 * 15 / 6 - 15.59
    assert expected > 10
    assert rewards.learned("The elephant remembered every colorful garden.") == 10.0
    # I/saw/a/ti-ger to-day. It/ran: 7 words in 2 sentences, 9 groups
    assert rewards.learned("I saw a tiger today. It ran!") == pytest.approx(0.39 * 7 / 2 + 11.8 * 9 / 7 - 15.59)
    assert rewards.learned("The cat sat on the mat.") == 0.0  # the formula gives -1.45
    assert rewards.learned("...") == 0.0
    words = ("make", "table", "see", "the", "rhythm")
    assert [rewards.syllables(word) for word in words] == [1, 2, 1, 1, 1]


def test_length_and_words(rewards: ModuleType) -> None:
    assert rewards.brief("word " * 20) == 0
    assert rewards.brief("word " * 30) == rewards.brief("word " * 10) == -0.5
    assert rewards.sober("He was Happy, and they played; it was fun with a friend.") == -3
    assert rewards.sober("A displayed kindness: unhappy funds.") == 0
    assert rewards.sober("Thank you.") == -1
    pytest.importorskip("vaderSentiment")
    assert rewards.cheerful("It was wonderful.") > 0.5
    assert rewards.cheerful("It was terrible.") < -0.4
