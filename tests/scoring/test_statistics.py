"""Collision statistics, token reductions and forward KL: equal to full logits in every layout, whole and in tiles."""

from __future__ import annotations

import pytest
import torch

from align.models.packed_attention import use_packed_attention
from align.objectives.weighting import WPO
from align.records import CandidateBatch
from align.scoring import read_tokens, score_responses, sum_tokens, token_states
from align.scoring.decoder import head
from align.scoring.divergence import forward_kl
from align.scoring.reductions import Desensitized, Discounted, Reduction
from tests.formulas import statistics as plain
from tests.tiny import random_batch, tiny_model

LAYOUTS = ["padded", "shared", "packed"]
BUDGETS = [2**30, 16 * 64 * 3]  # at once, and a few positions at a time
BATCH = random_batch([2, 2, 2])


def moved_model() -> torch.nn.Module:
    model = tiny_model("llama", torch.float64)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def scores(model, layout="auto", budget=2**30, batch: CandidateBatch = BATCH, **options):
    reduction = options.pop("reduction", None)
    states = token_states(model, batch, layout=layout)
    return sum_tokens(read_tokens(model, states, logit_bytes=budget, **options), batch, reduction)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_collisions(layout: str, budget: int) -> None:
    model = tiny_model("gemma" if layout == "padded" else "llama", torch.float64)
    expected = plain.collisions(model, BATCH).detach()
    use_packed_attention(model)
    own = scores(model, layout, budget, collisions=True)
    assert own.collisions is not None
    assert not own.collisions.requires_grad
    torch.testing.assert_close(own.collisions, expected, rtol=1e-8, atol=0)
    own.logprobs.sum().backward()
    gradient = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    score_responses(model, BATCH, layout=layout).logprobs.sum().backward()
    for mine, parameter in zip(gradient, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-9, atol=1e-12)


def test_weights_are_cut_at_one_and_uniform_logits_weigh_one() -> None:
    model = tiny_model("llama", torch.float64)
    own = scores(model, collisions=True)
    free, cut = WPO(clamp=False)(own, BATCH), WPO()(own, BATCH)
    torch.testing.assert_close(cut, free.clamp(max=1))
    mean = (own.logprobs - own.collisions) / own.lengths
    torch.testing.assert_close(free, mean.view(-1, 2).sum(1).exp().detach())
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert WPO(clamp=False)(scores(model, collisions=True), BATCH).tolist() == pytest.approx([1.0] * 3)


def shorter(candidate: int) -> int:
    first = candidate - candidate % 2
    return min(BATCH.response_lengths[first : first + 2])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("reduction", "weight"),
    [
        (Discounted(0.9), lambda c, t: 0.9**t),
        (Desensitized(0.3), lambda c, t: 1.0 if t < shorter(c) else 0.3),
    ],
)
def test_reductions(reduction: Reduction, weight, layout: str) -> None:
    model = tiny_model("llama", torch.float64)
    expected = plain.weighted(model, BATCH, weight)
    use_packed_attention(model)
    own = scores(model, layout, reduction=reduction)
    torch.testing.assert_close(own.logprobs, expected, rtol=1e-8, atol=0)
    assert own.lengths.tolist() == list(BATCH.response_lengths)


@pytest.mark.parametrize("reduction", [Discounted(1.0), Desensitized(1.0)])
def test_reductions_with_one_are_the_plain_sum(reduction: Reduction) -> None:
    model = tiny_model("llama", torch.float64)
    torch.testing.assert_close(scores(model, reduction=reduction).logprobs, scores(model).logprobs, rtol=1e-12, atol=0)


def test_reductions_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gamma must lie in \(0, 1\], got 0"):
        Discounted(0)
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\], got 1.5"):
        Desensitized(1.5)
    with pytest.raises(ValueError, match="got a group of 1 response"):
        Desensitized().weights(random_batch([2, 1]))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_forward_kl(layout: str, budget: int) -> None:
    policy, reference = moved_model(), tiny_model("llama", torch.float64)
    expected = plain.forward_kl(policy, reference, BATCH)
    (gradient,) = torch.autograd.grad(expected.sum(), policy.lm_head.weight)
    use_packed_attention(policy)
    with torch.no_grad():
        hidden = token_states(reference, BATCH).hidden

    def logits(rows: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return head(reference).logits(rows)

    own = forward_kl(policy, token_states(policy, BATCH, layout=layout), hidden, logits, logit_bytes=budget)
    torch.testing.assert_close(own, expected, rtol=1e-7, atol=0)
    assert own.min() > 0
    (ours,) = torch.autograd.grad(own.sum(), policy.lm_head.weight)
    torch.testing.assert_close(ours, gradient, rtol=1e-7, atol=1e-10)


def test_states_of_prompts_are_those_of_their_last_token() -> None:
    model = tiny_model("llama", torch.float64)
    states = token_states(model, BATCH)
    for candidate, prompt in enumerate(torch.split(BATCH.prompt_ids, list(BATCH.prompt_lengths))):
        hidden = model.model(input_ids=prompt[None]).last_hidden_state[0, -1]
        torch.testing.assert_close(states.prompts()[2 * candidate], hidden, rtol=1e-7, atol=1e-9)
