"""Nash-MD as settings of PolicyGradient: exact gradients over all responses of a small policy, TRL's former trainer."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from align.objectives.advantages import GroupAdvantage
from align.objectives.policy_gradient import PolicyGradient
from align.objectives.surrogates import ClippedRatio
from align.records import SampledTokens
from tests.formulas.preferences import nash_md_of_trl

TOKENS, BETA = 3, 0.4
SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "configs" / "method" / "nash_md.yaml").read_text())
GIVEN: dict[str, Any] = SHIPPED["model"]["init_args"]["objective"]["init_args"]
OBJECTIVE = PolicyGradient(
    **GIVEN | {"advantage": GroupAdvantage(**GIVEN["advantage"]), "beta": BETA, "surrogate": ClippedRatio(low=1e9)}
)


def weighed(now: Tensor, old: Tensor, anchor: Tensor, chances: Tensor, weights: Tensor) -> Tensor:
    """Return the objective over all responses, [response, token] each, every response by its weight."""
    advantages = OBJECTIVE.advantage(
        OBJECTIVE.shaped(chances - 0.5, (old - anchor).sum(1)).numpy(), torch.ones(len(chances)).long().numpy()
    )
    size = now.shape[1]
    flat = {"old_logprobs": old.flatten(), "advantages": torch.from_numpy(advantages).repeat_interleave(size)}
    ones = torch.ones_like(flat["advantages"])
    counts = torch.full((len(chances),), size)
    tokens = SampledTokens(now.flatten(), **flat, entropies=ones, counted=ones, counts=counts)
    losses, _ = OBJECTIVE(tokens)
    return OBJECTIVE.added_up(losses * tokens.on_tokens(weights), tokens)


class Policy:
    """Two tokens, the second after the first."""

    def __init__(self) -> None:
        self.first = torch.randn(TOKENS).double().requires_grad_()
        self.second = torch.randn(TOKENS, TOKENS).double().requires_grad_()

    def logprobs(self) -> Tensor:
        first, second = self.first.log_softmax(0), self.second.log_softmax(1)
        return torch.stack(
            [torch.stack([first[a], second[a, b]]) for a, b in itertools.product(range(TOKENS), repeat=2)]
        )

    def gradients(self, value: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(value, [self.first, self.second], retain_graph=True)


@pytest.mark.parametrize("moved", [False, True])
def test_the_gradient_is_that_of_the_regularised_game(moved: bool) -> None:
    """Of E[P(y beats y') - beta log(policy / reference)], over all responses; where the policy has moved since it drew, by
    the importance ratio of the response: the gradient of what the old policy's rewards are worth to the new one."""
    torch.manual_seed(0)
    policy = Policy()
    now = policy.logprobs()
    old = Policy().logprobs().detach() if moved else now.detach()
    chances = torch.rand(len(now)).double()
    anchor = torch.randn(len(now), 2).double()
    anchor = anchor - anchor.sum(1).logsumexp(0) / 2  # probabilities of whole responses that add up to 1
    ratio = (old if moved else now).sum(1) - anchor.sum(1)
    game = (now.sum(1).exp() * (chances - BETA * ratio)).sum()
    found = policy.gradients(weighed(now, old, anchor, chances, old.sum(1).exp()))
    for ours, exact in zip(found, policy.gradients(game), strict=True):
        torch.testing.assert_close(-ours, exact, rtol=1e-9, atol=1e-12)


def test_on_one_token_it_is_trls() -> None:
    policy = torch.tensor([-1.0, -0.2, -3.0]).double().requires_grad_()
    reference, chances = torch.tensor([-0.7, -0.9, -2.0]).double(), torch.tensor([0.9, 0.5, 0.0]).double()
    ours = weighed(policy[:, None], policy.detach()[:, None], reference[:, None], chances, torch.ones(3).double())
    theirs = nash_md_of_trl(policy[:, None], reference[:, None], chances, BETA).sum()
    found, expected = (torch.autograd.grad(losses, policy)[0] for losses in (ours, theirs))
    torch.testing.assert_close(found, expected)
    assert found[0].item() == pytest.approx(0.4 * -0.3 - 0.4)
