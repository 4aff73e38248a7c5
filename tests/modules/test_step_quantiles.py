"""Losses on quantiles: a step cut into micro-batches has the loss and the gradient of the whole one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from align.errors import ConfigError
from align.modules.dpo import DPOModule
from align.objectives.optimal_transport import AOT, AOTUnpaired
from align.objectives.weighting import WPO
from align.records import CandidateBatch, EncodedGroup, Step
from align.records.group import counts_of, totals_of
from tests.models.test_reference import disturb
from tests.modules.preference_runs import build, built

WEIGHTS = [1.0, 0.5, 2.0, 1.0, 3.0]
PAIRS = [
    EncodedGroup(f"{n}", [3 + n, 5, 7], [[9, 11 + n, 4], [6 + n, 8]], [0, 1], [[], []], weight, [False, False])
    for n, weight in enumerate(WEIGHTS)
]
TOTALS = totals_of(map(counts_of, PAIRS))


def computed(module: DPOModule, cuts: list[list[int]]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients of the step of all pairs in these micro-batches."""
    module.zero_grad()
    step = Step([CandidateBatch.of([PAIRS[i] for i in cut], TOTALS) for cut in cuts])
    module.begin_step(step)
    total = 0.0
    for batch in step:
        loss = module.loss(batch, batch.totals)
        loss.backward()
        total += loss.item()
    module.end_step()
    return total, {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("objective", [AOT(0.5, 0.1), AOTUnpaired(0.5, 0.1)])
@pytest.mark.parametrize("cuts", [[[0, 1], [2, 3, 4]], [[4], [2], [0], [3], [1]], [[3, 0, 4, 1], [2]]])
def test_a_step_is_the_same_however_it_is_cut(objective: AOT, cuts: list[list[int]], model_folder: Path) -> None:
    module = built(model_folder, objective)
    disturb(module.model)
    loss, gradients = computed(module, [[0, 1, 2, 3, 4]])
    cut_loss, cut_gradients = computed(module, cuts)
    assert cut_loss == pytest.approx(loss, rel=1e-12)
    for name, gradient in gradients.items():
        torch.testing.assert_close(cut_gradients[name], gradient, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("objective", [AOT(0.5), AOTUnpaired(0.5)])
def test_padding_has_no_part_in_it(objective: AOT, model_folder: Path) -> None:
    module = built(model_folder, objective)
    disturb(module.model)
    expected, gradients = computed(module, [[0, 1, 2, 3, 4]])
    padding = CandidateBatch.of(PAIRS[1:3], TOTALS).as_padding()
    first, last = (CandidateBatch.of(part, TOTALS) for part in (PAIRS[:3], PAIRS[3:]))
    module.zero_grad()
    module.begin_step(Step([padding, first, padding, last]))
    found = [module.loss(batch, batch.totals) for batch in (padding, first, padding, last)]
    total = torch.stack(found).sum()
    total.backward()
    assert [found[0].item(), found[2].item()] == [0, 0]
    assert total.item() == pytest.approx(expected, rel=1e-12)
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-9, atol=1e-13)


def test_weights_of_pairs_are_refused(model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="AOT compares quantiles: leave it out"):
        build(model_folder, AOT(), weighting=WPO())
