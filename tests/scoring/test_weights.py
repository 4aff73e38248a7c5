"""Response tokens with weights: what is not scored is read, and changes nothing else."""

from __future__ import annotations

import pytest
import torch

from align.models.packed_attention import use_packed_attention
from align.records import CandidateBatch, EncodedGroup
from align.records.group import counts_of
from align.scoring import score_responses, score_tokens
from align.scoring.reductions import Discounted
from align.scoring.responses import sum_tokens
from tests.tiny import tiny_model

GROUPS = [
    EncodedGroup("a", [3, 4, 5], [[6, 7, 8, 9], [10, 11]], [0, 1], [[], []], 1.0, [False] * 2),
    EncodedGroup("b", [12, 13], [[14, 15, 16]], [0], [[]], 1.0, [False]),
]
WEIGHTS = [[[1.0, 0.0, 0.5, 1.0], [0.0, 1.0]], [[1.0, 1.0, 1.0]]]


def scorer(layout: str):
    """A double-precision model that takes the layout."""
    model = tiny_model(dtype=torch.float64)
    if layout == "packed":
        use_packed_attention(model)
    return model


def weighted() -> list[EncodedGroup]:
    return [g._replace(response_weights=w) for g, w in zip(GROUPS, WEIGHTS, strict=True)]


def plain_logprobs(model, prompt: list[int], response: list[int]) -> torch.Tensor:
    """The model's own forward pass, one row."""
    ids = torch.tensor([prompt + response])
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double()
    return logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None])[:, 0]


@pytest.mark.parametrize("layout", ["packed", "shared", "padded"])
def test_weighted_sums_equal_the_plain_forward_pass(layout: str) -> None:
    model = tiny_model(dtype=torch.float64)
    batch = CandidateBatch.of(weighted())
    found = score_responses(scorer(layout), batch, layout=layout)
    rows = [(g.prompt_ids, r, w) for g in weighted() for r, w in zip(g.response_ids, g.response_weights, strict=True)]
    expected = [(plain_logprobs(model, p, r) * torch.tensor(w, dtype=torch.float64)).sum() for p, r, w in rows]
    torch.testing.assert_close(found.logprobs.double(), torch.stack(expected), rtol=1e-9, atol=1e-9)
    assert found.lengths.tolist() == [3, 1, 3]


def test_weights_of_one_change_no_bit() -> None:
    model = tiny_model()
    ones = [g._replace(response_weights=[[1.0] * len(r) for r in g.response_ids]) for g in GROUPS]
    for reduction in (None, Discounted(0.5)):
        sums = []
        for groups in (GROUPS, ones):
            batch = CandidateBatch.of(groups)
            sums.append(sum_tokens(score_tokens(model, batch), batch, reduction).logprobs)
        assert torch.equal(*sums)


def test_reductions_see_the_place_in_the_response() -> None:
    model = tiny_model(dtype=torch.float64)
    batch = CandidateBatch.of(weighted())
    found = sum_tokens(score_tokens(model, batch), batch, Discounted(0.5)).logprobs[0]
    logprobs = plain_logprobs(model, GROUPS[0].prompt_ids, GROUPS[0].response_ids[0])
    expected = logprobs[0] + 0.5 * 0.25 * logprobs[2] + 0.125 * logprobs[3]
    torch.testing.assert_close(found.double(), expected)


def test_totals_count_what_is_scored() -> None:
    assert counts_of(weighted()[0]).response_tokens == 3.5
    assert counts_of(GROUPS[0]).response_tokens == 6
    assert CandidateBatch.of(weighted()).totals.response_tokens == 6.5


@pytest.mark.parametrize("layout", ["packed", "shared", "padded"])
def test_prompts_of_their_own(layout: str) -> None:
    model = tiny_model(dtype=torch.float64)
    own = GROUPS[0]._replace(own_prompt_ids=[[3, 4, 5], [20, 21]])
    batch = CandidateBatch.of([own, GROUPS[1]])
    assert batch.prompt_of == (0, 1, 2)
    found = score_responses(scorer(layout), batch, layout=layout).logprobs.double()
    rows = [([3, 4, 5], [6, 7, 8, 9]), ([20, 21], [10, 11]), ([12, 13], [14, 15, 16])]
    torch.testing.assert_close(found, torch.stack([plain_logprobs(model, p, r).sum() for p, r in rows]))
    second = CandidateBatch.of([own]).only(1)
    assert (second.prompt_ids.tolist(), second.prompt_lengths, second.prompt_of) == ([20, 21], (2,), (0,))
    torch.testing.assert_close(score_responses(scorer(layout), second, layout=layout).logprobs.double()[0], found[1])
