"""What was copied to a device is known on the CPU without asking the device, and only as long as it is the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from align.models.references.reference_cache import candidate_keys, weights_hash
from align.models.stage import base_hash
from align.rounds.weights import policy_hash
from align.training.reference_code_eos import without_longest_ends
from align.transfer import on_cpu
from tests.tiny import random_batch

BATCH = random_batch([2, 3, 2], 1, 50)
AWAY = BATCH.to("meta")  # which has no values to read


def test_a_batch_on_a_device_knows_its_tokens() -> None:
    assert AWAY.response_ids.is_meta
    assert torch.equal(on_cpu(AWAY.response_ids), BATCH.response_ids)
    assert candidate_keys(AWAY) == candidate_keys(BATCH)
    assert on_cpu(BATCH.response_ids) is BATCH.response_ids


def test_rows_lose_their_ends_without_a_look_at_the_device() -> None:
    eos = int(BATCH.response_ids[-1])
    cut = without_longest_ends(BATCH, eos)
    assert without_longest_ends(AWAY, eos).response_lengths == cut.response_lengths


@pytest.mark.parametrize("change", [lambda b: b.only(0), lambda b: b._replace(response_ids=b.response_ids + 1)])
def test_other_tokens_are_read_anew(change) -> None:
    with pytest.raises(NotImplementedError, match="meta"):
        candidate_keys(change(AWAY))


@pytest.mark.parametrize("hashed", [base_hash, weights_hash, policy_hash])
def test_a_weight_that_is_one_number_is_hashed_too(hashed: Callable[[nn.Module], str]) -> None:
    """Apertus keeps two numbers of its activation in every block."""
    model = nn.Module()
    model.number = nn.Parameter(torch.tensor(1.0))
    before = hashed(model)
    with torch.no_grad():
        model.number += 1
    assert hashed(model) != before
