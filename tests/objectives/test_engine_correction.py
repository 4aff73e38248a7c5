"""Samples that another engine drew: the loss is corrected as TRL's GRPO trainer corrects it, on the same tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from align.objectives.policy_gradient import PolicyGradient
from align.objectives.proximal import PPO
from align.objectives.surrogates import ClippedRatio, GammaWeighted, TruncatedRatio
from align.records import SampledTokens
from tests.objectives.sampled import Taken
from tests.objectives.test_policy_gradient import grpo_trainer
from tests.objectives.trl_models import assert_same

CAP = 1.3


def drawn_elsewhere(taken: Taken, cap: float | None = CAP) -> tuple[torch.Tensor, dict[str, float]]:
    """Give the samples what an engine told of them, nothing of the first token; return that and what is measured."""
    torch.manual_seed(5)
    told = taken.old + 0.4 * torch.randn_like(taken.old)
    told[0] = torch.nan
    rollouts = taken.module.rollouts
    assert rollouts is not None
    rollouts.sampled = replace(rollouts.sampled, engine_logprobs=told.double().numpy(), importance_cap=cap)
    return told, rollouts.compared_with_engine()


@pytest.mark.parametrize(
    ("options", "objective"),
    [
        ({"loss_type": "grpo", "beta": 0.04}, PolicyGradient(beta=0.04)),
        ({"loss_type": "dapo", "epsilon_high": 0.28}, PolicyGradient(surrogate=ClippedRatio(0.2, 0.28), mean="token")),
        ({"loss_type": "cispo", "epsilon_high": 1.2}, PolicyGradient(surrogate=TruncatedRatio(1.2), mean="token")),
        (
            {"loss_type": "grpo", "importance_sampling_level": "sequence"},
            PolicyGradient(ratio="sequence"),
        ),
        ({"loss_type": "vespo"}, PolicyGradient(surrogate=GammaWeighted(), mean="token")),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_the_corrected_loss_is_that_of_trl(options: dict[str, Any], objective: PolicyGradient, tmp_path: Path) -> None:
    taken = Taken(objective)
    told, _ = drawn_elsewhere(taken)
    lengths = list(taken.batch.response_lengths)
    padded = pad_sequence(list(torch.split(taken.old - told, lengths)), batch_first=True)
    trainer = grpo_trainer(taken.policy, tmp_path, vllm_importance_sampling_mode="token_truncate", **options)
    trainer.use_vllm = True  # after it was built: it would look for the package
    # trl/trainer/grpo_trainer.py, _generate_and_score_completions: NaN counts as no difference, then the cap
    inputs = taken.trl_inputs()
    difference = torch.nan_to_num(padded * inputs["completion_mask"], nan=0.0)
    inputs["importance_sampling_ratio"] = torch.exp(difference).clamp(max=CAP)
    taken.policy.train()
    assert_same(taken.policy, taken.loss(), trainer._compute_loss(taken.policy, inputs))


def test_what_is_told_of_the_difference() -> None:
    taken = Taken(PolicyGradient())
    told, measured = drawn_elsewhere(taken)
    gaps = (taken.old - told).double().numpy()[1:]
    ratios = np.exp(np.concatenate([[0.0], gaps]))
    expected = {
        "engine_difference": np.abs(gaps).mean(),
        "engine_difference_max": np.abs(gaps).max(),
        "engine_ratio": np.minimum(ratios, CAP).mean(),
        "engine_ratios_capped": (ratios > CAP).mean(),
    }
    assert measured == pytest.approx(expected, rel=1e-6)
    assert 0 < measured["engine_ratios_capped"] < 1


def test_without_a_cap_nothing_is_corrected() -> None:
    taken, plain = Taken(PolicyGradient()), Taken(PolicyGradient())
    _, measured = drawn_elsewhere(taken, cap=None)
    assert set(measured) == {"engine_difference", "engine_difference_max"}
    assert taken.loss().item() == plain.loss().item()


def test_ppo_corrects_the_loss_of_its_policy_alone() -> None:
    """With a ratio of 1 to the policy that drew, the loss of a token is -A times the ratio to the engine."""
    zeros, ratios = torch.zeros(3), torch.tensor([0.5, 1.0, 2.0])
    tokens = SampledTokens(
        zeros,
        old_logprobs=zeros,
        advantages=torch.tensor([1.0, -2.0, 3.0]),
        entropies=zeros,
        counted=torch.ones(3),
        counts=torch.tensor([3]),
        values=torch.ones(3),
        old_values=torch.ones(3),
        returns=torch.zeros(3),
        engine_ratios=ratios,
    )
    assert PPO()(tokens)[0].tolist() == [-0.5, 2.0, -6.0]
    assert PPO().value_losses(tokens)[0].tolist() == [0.5] * 3
