"""A reference that is a bias-corrected average: TRL's values to the bit, refusals; kills stand in test_moving_reference."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from align.callbacks.resampling import IterativeResampling
from align.errors import ConfigError
from align.models.backbone import LoRA
from align.models.references import BiasCorrectedReference, MixtureTerm, MovingReference, ReferenceMixture
from align.rewards.scorers import GoldRewards
from align.rounds.pair_selections import BestWorst
from align.scoring import score_responses
from tests.models.test_moving_reference import module
from tests.models.test_reference import BATCH, disturb, load
from tests.modules.fitting import fit, pairs_data


@pytest.mark.parametrize(("ema_power", "bias_power", "lag"), [(0.5, 0.2, 10), (0.9, 0.0, 1), (0.0, 1.5, 3)])
def test_every_move_is_that_of_trl(ema_power: float, bias_power: float, lag: int, model_folder: Path) -> None:
    """In every weight, at and between moves."""
    from trl import BEMACallback

    policy, backbone = load(model_folder)
    theirs = BEMACallback(update_freq=2, ema_power=ema_power, bias_power=bias_power, lag=lag)
    nothing: Any = SimpleNamespace()
    theirs.on_train_begin(nothing, nothing, nothing, policy)
    ours = BiasCorrectedReference(2, ema_power, bias_power, lag).build(policy, backbone, None, score_responses)
    assert torch.equal(ours.score(policy, BATCH).logprobs, score_responses(policy, BATCH).logprobs)
    for step in range(1, 8):
        disturb(policy)
        ours.after_step(policy, step)
        theirs.on_step_end(nothing, SimpleNamespace(global_step=step), nothing, policy)  # type: ignore[arg-type]
        assert ours.model is not None
        found, expected = dict(ours.model.named_parameters()), dict(theirs.running_model.named_parameters())
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_factors_of_adapters_follow_by_the_same_formula(model_folder: Path) -> None:
    """One move by hand: (10 + 1)^-.5 of the policy in the average, (10 + 1)^-.2 of its way on top."""
    policy, backbone = load(model_folder, lora=LoRA(r=2))
    with pytest.warns(UserWarning, match="the factors are averaged"):
        ours = BiasCorrectedReference(1).build(policy, backbone, None, score_responses)
    start = {name: p.detach().clone() for name, p in policy.named_parameters() if ".default." in name}
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if ".default." in name:
                parameter.add_(torch.randn_like(parameter))
    ours.after_step(policy, 1)
    found = dict(policy.named_parameters())
    for name, first in start.items():
        way = found[name] - first
        expected = first + 11**-0.5 * way + 11**-0.2 * way
        torch.testing.assert_close(found[name.replace("default", "moving")], expected, rtol=1e-5, atol=1e-6)
    assert len(ours.moving(policy)) == 3 * len(start)


def test_what_cannot_follow_is_refused(model_folder: Path, pairs_file: Path) -> None:
    for settings in ({"every_n_steps": 0}, {"lag": 0}, {"ema_power": -1.0}, {"bias_power": -0.1}):
        with pytest.raises(ConfigError, match="BiasCorrectedReference: every_n_steps and lag must be at least 1"):
            BiasCorrectedReference(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="BiasCorrectedReference would never move: every_n_steps is 400"):
        fit(module(model_folder, BiasCorrectedReference()), pairs_data(pairs_file), max_steps=3)
    rounds = IterativeResampling(GoldRewards(), BestWorst(), restart=True)
    with pytest.raises(ConfigError, match="BiasCorrectedReference would go on from the round before"):
        fit(module(model_folder, BiasCorrectedReference(1)), pairs_data(pairs_file), callbacks=[rounds], max_steps=3)
    policy, backbone = load(model_folder, dtype="bfloat16")
    with pytest.raises(ConfigError, match="the share that the average takes of weights"):
        BiasCorrectedReference(1).build(policy, backbone, None, score_responses)
    policy, backbone = load(model_folder, lora=LoRA(r=2))
    twice = ReferenceMixture([MixtureTerm(MovingReference(1, 1.0), 0.5), MixtureTerm(BiasCorrectedReference(1), 0.5)])
    with pytest.raises(ConfigError, match="two BiasCorrectedReference on one base"):
        twice.build(policy, backbone, None, score_responses)
