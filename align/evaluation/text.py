"""Measures of text alone: BLEU against references, diversity, repetition, refusals, length."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import NamedTuple

from sacrebleu.metrics.bleu import BLEU

TURN_MARKS = ("Human:", "human:", "Assistant:", "assistant:")
_REFUSALS = re.compile(
    r"\bI (?:can(?:no|')t|cannot|won't|will not|am (?:unable|not able) to|don't feel comfortable|must decline)\b"
    r"(?! (?:wait|believe|stop|say enough))"
    r"|\bI(?:'m| am) (?:not able to|unable to|not comfortable|not going to)\b"
    r"|\bas an? (?:AI|language model|AI language model)\b.{0,40}\b(?:can(?:no|')t|cannot|unable|not able)",
    re.IGNORECASE,
)
REFUSAL_WINDOW = 200
"""Characters at the start of a response in which a refusal is looked for; later ones qualify an answer."""


class CorpusBLEU(NamedTuple):
    """BLEU of a whole corpus, from 0 to 100, and the signature that says how it was computed."""

    score: float
    signature: str


class Lengths(NamedTuple):
    """How long responses are."""

    mean_characters: float
    mean_words: float
    median_words: float
    longest_words: int
    empty: int
    """Responses of white space alone."""


def cut_at_turn(text: str) -> str:
    """Return a sampled response up to where the model begins another turn, stripped (PRO's released evaluation)."""
    places = [place for mark in TURN_MARKS if (place := text.find(mark)) >= 0]
    return text[: min(places, default=len(text))].strip()


def character_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Return PRO's BLEU, from 0 to 100: the mean over responses of a sentence BLEU-4 of characters.

    Song et al. 2023 (arXiv:2306.17492), released `get_bleu`: it hands strings to NLTK's `sentence_bleu`, which takes
    each character for a word; unsmoothed. For comparison with their tables only: `corpus_bleu` is the usual BLEU.
    """
    _check(hypotheses, references)
    return 100 * fmean(_sentence(h.strip(), r.strip()) for h, r in zip(hypotheses, references, strict=True))


def _sentence(hypothesis: str, reference: str, order: int = 4) -> float:
    """Return BLEU of two sequences as NLTK 3.8 does: the smallest float stands for an order without a match."""
    logs = []
    for n in range(1, order + 1):
        found, known = _ngrams(hypothesis, n), _ngrams(reference, n)
        matches = (found & known).total()
        if n == 1 and matches == 0:
            return 0.0
        logs.append(math.log(matches / found.total() if matches else sys.float_info.min))
    brevity = min(0.0, 1 - len(reference) / len(hypothesis))
    return math.exp(brevity + fmean(logs))


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> CorpusBLEU:
    """Return the BLEU of the corpus with sacrebleu's settings (Post 2018, arXiv:1804.08771)."""
    _check(hypotheses, references)
    metric = BLEU()
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return CorpusBLEU(score, str(metric.get_signature()))


def distinct(texts: Iterable[str], n: int) -> float:
    """Return distinct-n: different n-grams of words over all n-grams (Li et al. 2016, arXiv:1510.03055)."""
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        counts.update(_ngrams(text.split(), n))
    return len(counts) / counts.total() if counts else math.nan


def repetition(texts: Iterable[str], n: int = 4) -> float:
    """Return the mean over texts of the share of n-grams that are repeats within it (Welleck et al. 2020, seq-rep-n).

    Texts shorter than n words have none and are left out; NaN when all are.
    """
    counts = [_ngrams(text.split(), n) for text in texts]
    return fmean(1 - len(c) / c.total() for c in counts if c) if any(counts) else math.nan


def refuses(text: str) -> bool:
    """Return whether a response opens with a refusal, by phrases in English: a heuristic, no classifier."""
    return _REFUSALS.search(text[:REFUSAL_WINDOW].replace("’", "'")) is not None


def lengths(texts: Sequence[str]) -> Lengths:
    """Return length statistics; words are split at white space."""
    words = [len(text.split()) for text in texts]
    return Lengths(
        fmean(map(len, texts)), fmean(words), median(words), max(words), sum(not text.strip() for text in texts)
    )


def _ngrams(sequence: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1))


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(f"BLEU needs a reference for each response, got {len(references)} for {len(hypotheses)}")
