"""Values by group and place, and a batch on its way to a device."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from align.records import CandidateBatch, Step
from align.records.candidate_matrix import matrix_of, of_each
from align.transfer import each
from tests.tiny import random_batch


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 3, 2), (4,), (1, 1)])
def test_a_matrix_is_what_padding_makes_with_its_gradient(sizes: tuple[int, ...]) -> None:
    values = torch.arange(1.0, 1 + sum(sizes), dtype=torch.float64, requires_grad=True)
    own = matrix_of(values, sizes, -7.0)
    padded = pad_sequence(list(torch.split(values, list(sizes))), batch_first=True, padding_value=-7.0)
    assert torch.equal(own, padded)
    weights = torch.arange(own.numel(), dtype=torch.float64).view_as(own)
    found, expected = (torch.autograd.grad((m * weights).sum(), values)[0] for m in (own, padded))
    assert torch.equal(found, expected)
    assert torch.equal(matrix_of(values.detach() > 2, sizes, False).sum(), (values > 2).sum())


def test_places_found_without_gradients_serve_a_pass_with_them() -> None:
    values = torch.ones(3, requires_grad=True)
    with torch.inference_mode():
        matrix_of(values, (1, 2), 0.0)
    matrix_of(values, (1, 2), 0.0).sum().backward()
    assert values.grad is not None


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3)])
def test_of_each_repeats_by_size(sizes: tuple[int, ...]) -> None:
    found = of_each(torch.tensor([5.0, 6.0]), sizes)
    assert found.tolist() == [5.0] * sizes[0] + [6.0] * sizes[1]


def test_a_step_moves_whole_and_keeps_its_kinds() -> None:
    batch = random_batch([2, 3])
    moved = Step([batch]).to("meta")
    assert isinstance(moved, Step)
    assert isinstance(moved[0], CandidateBatch)
    assert moved[0].response_ids.device.type == "meta"
    assert moved[0].response_lengths is batch.response_lengths  # numbers stay what they are
    assert each(batch, torch.Tensor, lambda values: values).totals == batch.totals
