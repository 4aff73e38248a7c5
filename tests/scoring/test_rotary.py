"""Rotary angles that depend on a row's length: a row scores as it does alone, whatever stands beside or came before it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from align.models.packed_attention import use_packed_attention
from align.records import CandidateBatch, EncodedGroup
from align.sampling.generation import Generation
from align.sampling.sampler import sample
from align.scoring import score_responses
from align.scoring.decoder import choose_layout
from tests.formulas.logprobs import plain_logprobs
from tests.tiny import random_batch, tiny_model, tiny_tokenizer

TRAINED = 16
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.0, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": TRAINED,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
KINDS = {"longrope": (LONG, 64), "dynamic": (DYNAMIC, TRAINED)}
LENGTHS = [(8, 4), (9, 7), (12, 9), (10, 20), (12, 9)]
"""Prompt and response; 12, 16, 21, 30 and 21 tokens, two short rows and three long ones."""


def model_of(kind: str) -> Any:
    settings, positions = KINDS[kind]
    return tiny_model("llama", torch.float64, rope_parameters=settings, max_position_embeddings=positions)


def batch_of(lengths: list[tuple[int, int]]) -> CandidateBatch:
    draw = torch.Generator().manual_seed(0)
    ids = [torch.randint(3, 60, (p + r,), generator=draw).tolist() for p, r in lengths]
    return CandidateBatch.of(
        [
            EncodedGroup(f"g{i}", row[:p], [row[p:]], [0], [[]], 1.0, [False])
            for i, (row, (p, _)) in enumerate(zip(ids, lengths, strict=True))
        ]
    )


def alone(kind: str, lengths: list[tuple[int, int]]) -> list[CandidateBatch]:
    whole = batch_of(lengths)
    prompts = whole.prompt_ids.split(list(whole.prompt_lengths))
    responses = whole.response_ids.split(list(whole.response_lengths))
    rows = zip(prompts, responses, strict=True)
    return [CandidateBatch.of([EncodedGroup("g", p.tolist(), [r.tolist()], [0], [[]], 1.0, [False])]) for p, r in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_score_as_they_do_alone(kind: str) -> None:
    model, batch = model_of(kind), batch_of(LENGTHS)
    fresh = [copy.deepcopy(model) for _ in LENGTHS]
    expected = torch.cat([plain_logprobs(m, row) for m, row in zip(fresh, alone(kind, LENGTHS), strict=True)])
    use_packed_attention(model)
    assert choose_layout(model, batch) == "padded"
    for _ in range(2):  # what a batch leaves behind does not touch the next
        own = score_responses(model, batch).logprobs
        torch.testing.assert_close(own, expected, rtol=1e-7, atol=0)
    own.sum().backward()
    total = sum((plain_logprobs(m, row).sum() for m, row in zip(fresh, alone(kind, LENGTHS), strict=True)))
    total.backward()
    for name, parameter in model.named_parameters():
        gradient = sum(dict(m.named_parameters())[name].grad for m in fresh)
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_angles_do_differ(kind: str) -> None:
    """One batch of a plain forward gives the short row other numbers: what the rows are kept apart for."""
    model, batch = model_of(kind), batch_of(LENGTHS[:4])
    rows = alone(kind, LENGTHS[:1])[0]
    short = torch.cat([rows.prompt_ids, rows.response_ids])
    padded = torch.stack([torch.nn.functional.pad(short, (0, 18)), torch.arange(30)])
    together = model(input_ids=padded, use_cache=False).logits[0, : len(short)]
    apart = model_of(kind)(input_ids=short[None], use_cache=False).logits[0]
    assert (together - apart).abs().max() > 1e-2
    assert max(map(sum, LENGTHS)) > TRAINED >= batch.prompt_lengths[0]


@pytest.mark.parametrize("kind", KINDS)
def test_short_batches_are_packed(kind: str) -> None:
    model = model_of(kind)
    use_packed_attention(model)
    batch = random_batch([2, 2], longest=4)
    assert choose_layout(model, batch) == "packed"
    torch.testing.assert_close(
        score_responses(model, batch).logprobs, plain_logprobs(model_of(kind), batch), rtol=1e-8, atol=0
    )


def test_greedy_equals_plain_forwards_across_the_border() -> None:
    model = model_of("longrope")
    use_packed_attention(model)
    prompts = [[0, *range(5, 5 + n)] for n in (12, 6, 20)]
    found = sample(model, tiny_tokenizer(), prompts, Generation(max_new_tokens=8, temperature=0), eos_ids=[1])
    fresh = model_of("longrope")
    for prompt, drawn in zip(prompts, found, strict=True):
        ids = list(prompt)
        for token in drawn.ids:
            with torch.no_grad():
                assert int(fresh(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()) == token
            ids.append(token)
