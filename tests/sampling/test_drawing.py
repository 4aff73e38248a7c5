"""One token from logits and a number: inverse of the cumulative distribution, checked by hand and by frequency."""

from __future__ import annotations

import pytest
import torch
from transformers import TopPLogitsWarper

from align.errors import ModelError
from align.sampling.token_sampling import nucleus, sample_next_tokens


def test_the_token_where_the_distribution_passes_the_number() -> None:
    logits = torch.tensor([0.2, 0.0, 0.5, 0.3]).log().repeat(6, 1)  # cumulative .2, .2, .7, 1
    drawn = torch.tensor([1e-7, 0.19, 0.21, 0.69, 0.71, 1.0])
    assert sample_next_tokens(logits, drawn, temperature=1, top_p=1).tolist() == [0, 0, 2, 2, 3, 3]
    assert sample_next_tokens(logits, drawn, temperature=0, top_p=1).tolist() == [2] * 6


def test_temperature_sharpens() -> None:
    """At temperature 1/2 probabilities .25 and .75 become 1/10 and 9/10."""
    logits = torch.tensor([[0.25, 0.75]]).log().repeat(2, 1)
    assert sample_next_tokens(logits, torch.tensor([0.099, 0.101]), temperature=0.5, top_p=1).tolist() == [0, 1]


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
def test_the_nucleus_is_that_of_transformers(top_p: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(50, 40) * 3
    theirs = TopPLogitsWarper(top_p)(None, logits).softmax(-1)
    ours = nucleus(logits.softmax(-1), top_p)
    torch.testing.assert_close(ours / ours.sum(-1, keepdim=True), theirs)


def test_frequencies_are_probabilities() -> None:
    torch.manual_seed(0)
    logits, count = torch.randn(12), 40_000
    tokens = sample_next_tokens(logits.repeat(count, 1), 1 - torch.rand(count), temperature=1, top_p=1)
    expected = logits.softmax(-1)
    errors = (torch.bincount(tokens, minlength=12) / count - expected) / (expected * (1 - expected) / count).sqrt()
    assert errors.abs().max() < 4


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers(temperature: float) -> None:
    with pytest.raises(ModelError, match="no numbers"):
        sample_next_tokens(torch.full((1, 3), torch.nan), torch.ones(1), temperature=temperature, top_p=1)
