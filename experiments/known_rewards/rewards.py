"""What a text is worth, as exact functions of it.

`sober` forbids the words that make a text cheerful. What else pulls against what depends on the model: README.md has
the correlations over samples of the untouched one.
"""

from __future__ import annotations

import re

from align.rewards.verifiable import sentiment

TARGET = 20
"""Words that a text should have."""
CHEERFUL = re.compile(
    r"amazing|beautiful|best|enjoy|excited|friends?|fun|glad|good|great|happy|happily|help|helpful|kind|laughed"
    r"|like|liked|loves?|loved|nice|play|played|playing|pretty|smiled?|thank|wonderful"
)
"""Words that a text should not have."""
HIGHEST = 10.0
"""Grade above which none is rewarded: one endless sentence has any."""

VOWELS = re.compile(r"[aeiouy]+")
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
SENTENCE_END = re.compile(r"[.!?]+")


def cheerful(completion: str) -> float:
    """Return VADER's compound, -1 to 1."""
    return sentiment(completion)


def brief(completion: str) -> float:
    """Return 0 at the target length and less on both sides, in shares of it; words are split at white space."""
    return -abs(len(completion.split()) - TARGET) / TARGET


def learned(completion: str) -> float:
    """Return the Flesch-Kincaid grade (Kincaid et al. 1975), from 0 to the highest; 0 for a text without a word."""
    words = WORD.findall(completion.lower())
    if not words:
        return 0.0
    sentences = max(1, len(SENTENCE_END.findall(completion)))
    grade = 0.39 * len(words) / sentences + 11.8 * sum(map(syllables, words)) / len(words) - 15.59
    return min(max(grade, 0.0), HIGHEST)


def syllables(word: str) -> int:
    """Return the groups of vowels in a word, without a silent e at its end; at least 1."""
    groups = len(VOWELS.findall(word))
    silent = word.endswith("e") and not word.endswith(("le", "ee")) and groups > 1
    return max(groups - silent, 1)


def sober(completion: str) -> float:
    """Return minus how many of the listed words a text has, -3 at most."""
    return -float(min(sum(CHEERFUL.fullmatch(word) is not None for word in WORD.findall(completion.lower())), 3))
