"""The tiled head, against log_softmax of all logits at once."""

import pytest
import torch
from torch import nn

from align.scoring.head import Head
from align.scoring.linear_logprobs import linear_logprobs


def problem(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden, matrix = torch.randn(23, 6, dtype=dtype), torch.randn(11, 6, dtype=dtype)
    return hidden.requires_grad_(), matrix.requires_grad_(), torch.randint(11, (23,))


@pytest.mark.parametrize("rows", [1, 5, 23, 100])
def test_values_and_gradients_are_those_of_log_softmax(rows: int) -> None:
    hidden, matrix, targets = problem()
    factors = torch.randn(23, dtype=torch.float64)
    wanted = (hidden @ matrix.T).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    found = linear_logprobs(hidden, matrix, targets, rows)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    for own, right in zip(*(torch.autograd.grad(v, (hidden, matrix), factors) for v in (found, wanted)), strict=True):
        torch.testing.assert_close(own, right, rtol=1e-12, atol=1e-12)


def test_gradcheck_and_a_frozen_matrix() -> None:
    hidden, matrix, targets = problem()
    assert torch.autograd.gradcheck(lambda h, m: linear_logprobs(h, m, targets, 4), (hidden, matrix))
    frozen = matrix.detach()
    assert torch.autograd.gradcheck(lambda h: linear_logprobs(h, frozen, targets, 4), hidden)
    assert not linear_logprobs(hidden.detach(), frozen, targets, 4).requires_grad


def test_a_trained_matrix_is_summed_in_float32_over_tiles() -> None:
    """A thousand tiles of a half-precision state: sums in bfloat16 would stop growing at 256 equal terms."""
    hidden = torch.ones(1000, 1, dtype=torch.bfloat16)
    matrix = torch.zeros(2, 1, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        linear_logprobs(hidden, matrix, torch.zeros(1000, dtype=torch.long), 1).sum().backward()
    assert matrix.grad is not None
    assert matrix.grad.tolist() == [[500.0], [-500.0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_float32_close_to_the_truth(dtype: torch.dtype) -> None:
    hidden, matrix, targets = problem(torch.float32)
    with torch.autocast("cpu", dtype):
        found = linear_logprobs(hidden, matrix, targets, 4)
        wanted = nn.functional.linear(hidden, matrix).float().log_softmax(-1).gather(1, targets[:, None])[:, 0]
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)
    for own, right in zip(*(torch.autograd.grad(v.sum(), (hidden, matrix)) for v in (found, wanted)), strict=True):
        assert own.dtype == torch.float32
        torch.testing.assert_close(own, right, rtol=2e-2, atol=2e-2)


def test_a_head_with_more_than_a_matrix_is_computed_by_itself() -> None:
    hidden, matrix, targets = problem()
    layer = nn.Linear(6, 11, dtype=torch.float64)
    plain = nn.Linear(6, 11, bias=False, dtype=torch.float64)
    hooked = nn.Linear(6, 11, bias=False, dtype=torch.float64)
    hooked.register_forward_hook(lambda _, __, out: out * 2)
    for part, factor in ((layer, 1), (plain, 1), (hooked, 2)):
        with torch.no_grad():
            part.weight.copy_(matrix)
        bias = 0 if part.bias is None else part.bias
        wanted = (factor * (hidden @ matrix.T + bias)).log_softmax(-1).gather(1, targets[:, None])[:, 0]
        torch.testing.assert_close(Head(part, 11).tiled_logprobs(hidden, targets, 400), wanted)
