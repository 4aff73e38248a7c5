"""Policy gradients on groups of samples: TRL's GRPO and RLOO trainers on the same tensors, and closed forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from align.errors import ConfigError
from align.objectives.advantages import GroupAdvantage
from align.objectives.policy_gradient import PolicyGradient, kl_estimate
from align.objectives.surrogates import ClippedRatio, GammaWeighted, SoftGate, TruncatedRatio
from align.records import CandidateBatch, Step
from tests.objectives.sampled import ADVANTAGES, FINISHED, SAMPLES, Taken
from tests.objectives.trl_models import OPTIONS, assert_same
from tests.tiny import tiny_tokenizer

LENGTHS = [len(response) for _, responses in SAMPLES for response in responses]
HIGHER = ClippedRatio(0.2, 0.28)
LOSSES: list[tuple[dict[str, Any], PolicyGradient]] = [
    ({"loss_type": "grpo"}, PolicyGradient()),
    ({"loss_type": "grpo", "beta": 0.04}, PolicyGradient(beta=0.04)),
    ({"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": False}, PolicyGradient(beta=0.04, kl="k3")),
    ({"loss_type": "grpo", "epsilon_high": 0.28}, PolicyGradient(surrogate=HIGHER)),
    ({"loss_type": "grpo", "delta": 1.4}, PolicyGradient(surrogate=ClippedRatio(most=1.4))),
    ({"loss_type": "grpo", "entropy_coef": 0.05}, PolicyGradient(entropy_weight=0.05)),
    (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.1},
        PolicyGradient(surrogate=ClippedRatio(0.1), ratio="sequence"),
    ),
    ({"loss_type": "dr_grpo", "max_completion_length": 7}, PolicyGradient(mean="fixed", length=7)),
    ({"loss_type": "bnpo"}, PolicyGradient(mean="token")),
    ({"loss_type": "dapo", "beta": 0.1}, PolicyGradient(mean="token", beta=0.1)),
    ({"loss_type": "cispo", "epsilon_high": 1.2}, PolicyGradient(surrogate=TruncatedRatio(1.2), mean="token")),
    ({"loss_type": "sapo"}, PolicyGradient(surrogate=SoftGate())),
    ({"loss_type": "luspo", "importance_sampling_level": "sequence"}, PolicyGradient(ratio="sequence", mean="sum")),
    ({"loss_type": "luspo"}, PolicyGradient(mean="sum")),
    ({"loss_type": "dapo", "top_entropy_quantile": 0.3}, PolicyGradient(mean="token", top_entropy_quantile=0.3)),
    (
        {"loss_type": "grpo", "top_entropy_quantile": 0.6, "entropy_coef": 0.05, "beta": 0.1},
        PolicyGradient(top_entropy_quantile=0.6, entropy_weight=0.05, beta=0.1),
    ),
    ({"loss_type": "grpo", "off_policy_mask_threshold": 0.05}, PolicyGradient(off_policy_mask_threshold=0.05)),
    ({"loss_type": "vespo"}, PolicyGradient(surrogate=GammaWeighted(), mean="token")),
]


def grpo_trainer(policy: Any, folder: Path, **options: Any) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    chosen = {"per_device_train_batch_size": 6, "num_generations": 3, **options, "beta": 0.0}  # it would load another
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(output_dir=str(folder), **OPTIONS, **chosen),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 2),
        processing_class=tiny_tokenizer(),
    )
    trainer.current_gradient_accumulation_steps, trainer.beta = 1, options.get("beta", 0.0)
    return trainer


@pytest.mark.parametrize(("options", "objective"), LOSSES, ids=[str(o) for o, _ in LOSSES])
def test_the_loss_is_that_of_trl(options: dict[str, Any], objective: PolicyGradient, tmp_path: Path) -> None:
    taken = Taken(objective)
    trainer = grpo_trainer(taken.policy, tmp_path, **options)
    taken.policy.train()
    theirs = trainer._compute_loss(taken.policy, taken.trl_inputs())
    assert_same(taken.policy, taken.loss(), theirs)


def test_masked_samples_are_left_out_as_trl_does(tmp_path: Path) -> None:
    for mean, kind in (("sequence", "grpo"), ("token", "dapo")):
        taken = Taken(PolicyGradient(mean=mean, mask_truncated=True))  # type: ignore[arg-type]
        inputs = taken.trl_inputs()
        inputs["completion_mask"] = inputs["completion_mask"] * torch.tensor(FINISHED)[:, None].long()
        inputs["num_items_in_batch"] = inputs["completion_mask"].sum()
        trainer = grpo_trainer(taken.policy, tmp_path, loss_type=kind)
        taken.policy.train()
        assert_same(taken.policy, taken.loss(), trainer._compute_loss(taken.policy, inputs))


def test_rloo_is_that_of_trl(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    taken = Taken(PolicyGradient(ratio="product", surrogate=ClippedRatio(0.3), beta=0.05, kl="k1_in_reward"))
    trainer = RLOOTrainer(
        model=taken.policy,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=RLOOConfig(
            output_dir=str(tmp_path), **OPTIONS, per_device_train_batch_size=6, num_generations=3, beta=0.0, epsilon=0.3
        ),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 2),
        processing_class=tiny_tokenizer(),
    )
    taken.policy.train()
    theirs = trainer._compute_loss(taken.policy, {**taken.trl_inputs(), "old_logps": taken.old_sums})
    assert_same(taken.policy, taken.loss(), theirs)


def _one(batch: CandidateBatch, group: int) -> CandidateBatch:
    from align.records import EncodedGroup

    prompts = torch.split(batch.prompt_ids, list(batch.prompt_lengths))
    responses = [r.tolist() for r in torch.split(batch.response_ids, list(batch.response_lengths))]
    own = slice(3 * group, 3 * group + 3)
    row = EncodedGroup(
        batch.ids[group], prompts[group].tolist(), responses[own], [0] * 3, batch.scores[own].tolist(), 1.0, [False] * 3
    )
    return CandidateBatch.of([row], attributes=batch.attributes)


@pytest.mark.parametrize("objective", [o for _, o in LOSSES])
def test_micro_batches_do_not_change_the_loss(objective: PolicyGradient) -> None:
    taken = Taken(objective)
    whole = taken.loss()
    padding = _one(taken.batch, 0).as_padding()
    parts = taken.loss(_one(taken.batch, 1), _one(taken.batch, 0), padding)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)


def test_at_the_first_step_of_a_round_the_ratio_is_one() -> None:
    taken = Taken(PolicyGradient(), drift=0.5)
    taken.module._first_step = True
    loss = taken.loss()
    expected = -np.mean([1.2, -0.7, 0.3, -1.1, 0.8, -0.4])  # every ratio is 1, every token has its sample's advantage
    assert loss.item() == pytest.approx(expected, abs=1e-6)


# Rewards 1, 0, 0, 3 and 2, 2: means 1 and 2; deviations sqrt(6 / 3) and 0; of all, sqrt(22 / 5 ...) by numpy's own.
REWARDS, SIZES = np.array([1.0, 0, 0, 3, 2, 2]), np.array([4, 2])


def test_advantages_by_hand() -> None:
    root = 2**0.5 + 1e-4
    expected = [0, -1 / root, -1 / root, 2 / root, 0, 0]
    np.testing.assert_allclose(GroupAdvantage()(REWARDS, SIZES), expected)
    np.testing.assert_allclose(GroupAdvantage(scale="none")(REWARDS, SIZES), [0, -1, -1, 2, 0, 0])
    np.testing.assert_allclose(
        GroupAdvantage("leave_one_out", "none")(REWARDS, SIZES), [0, -4 / 3, -4 / 3, 8 / 3, 0, 0]
    )
    spread = np.std(REWARDS, ddof=1) + 1e-4
    np.testing.assert_allclose(GroupAdvantage(scale="batch")(REWARDS, SIZES), np.array([0, -1, -1, 2, 0, 0]) / spread)
    found = GroupAdvantage("none", "advantages")(REWARDS, SIZES)
    np.testing.assert_allclose([found.mean(), np.std(found, ddof=1)], [0, 1], atol=1e-3)


def test_a_sample_alone_has_nothing_to_be_compared_with() -> None:
    for advantage in (GroupAdvantage(), GroupAdvantage("leave_one_out", "none")):
        assert advantage(np.array([5.0, 1.0, 2.0]), np.array([1, 2]))[0] == 0


def test_estimates_of_the_divergence_by_hand() -> None:
    """p .5 against q .4 (spec, section 11): k1 .223144, k3 .023144; k2 is .223144 squared over 2."""
    policy, reference = torch.tensor([0.5]).log(), torch.tensor([0.4]).log()
    for kind, value in {"k1": 0.223144, "k2": 0.024897, "k3": 0.023144}.items():
        assert kl_estimate(kind, policy, reference).item() == pytest.approx(value, abs=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mean": "fixed"}, "length"),
        ({"length": 5}, "mean fixed"),
        ({"kl": "k2"}, "no effect at beta 0"),
        ({"beta": -1.0}, "beta"),
        ({"surrogate": GammaWeighted(), "ratio": "sequence"}, "ratio"),
    ],
)
def test_settings_without_an_effect_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        PolicyGradient(**options)
    with pytest.raises(ConfigError):
        GroupAdvantage("none", "group")
    with pytest.raises(ConfigError):
        ClippedRatio(0.2, most=1.1)


def test_what_is_left_out_is_some_and_not_all() -> None:
    """That the two cases against TRL above are no empty ones: some samples of negative advantage have drifted, by hand."""
    taken = Taken(PolicyGradient(off_policy_mask_threshold=0.05))
    taken.module.begin_step(Step((taken.batch,)))
    tokens = taken.module.sampled_tokens(taken.batch, taken.module._states(taken.policy, taken.batch))
    drift = [float(gap.mean()) for gap in (tokens.old_logprobs - tokens.logprobs).split(LENGTHS)]
    expected = [float(a < 0 and d > 0.05) for a, d in zip(ADVANTAGES, drift, strict=True)]
    assert taken.module.objective.off_policy(tokens).tolist() == expected
    assert 0 < sum(expected) < sum(a < 0 for a in ADVANTAGES)


def test_the_scale_of_weights_changes_nothing() -> None:
    """Weights of .01 add up to less than 1 in a step, which is no reason to divide by 1."""
    taken = Taken(PolicyGradient())
    small = taken.batch._replace(weights=taken.batch.weights * 0.01)
    assert taken.loss(small).item() == pytest.approx(taken.loss().item(), rel=1e-5)


def test_high_entropy_is_of_the_whole_step() -> None:
    """A fifth of 19 tokens is four, the four of the highest entropy, however the step is cut."""
    taken = Taken(PolicyGradient(mean="token", top_entropy_quantile=0.2))
    parts = [_one(taken.batch, 1), _one(taken.batch, 0), _one(taken.batch, 0).as_padding()]
    entropies = taken.module._read(taken.policy, taken.module._states(taken.policy, taken.batch)).entropies
    assert entropies is not None
    taken.module.begin_step(Step(parts))
    marked = []
    for batch in (parts[1], parts[0]):
        tokens = taken.module.sampled_tokens(batch, taken.module._states(taken.policy, batch))
        found, count = taken.module.high_entropy.mark(tokens, batch)
        marked.append(found.high_entropy)
        assert count == 4
    assert sum(LENGTHS) == 19
    highest = entropies >= entropies.sort(descending=True).values[3] - 1e-6
    assert torch.cat(marked).bool().tolist() == highest.tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings", [{"top_entropy_quantile": 1.5}, {"top_entropy_quantile": -0.1}, {"off_policy_mask_threshold": 0.0}]
)
def test_shares_and_limits_are_checked(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        PolicyGradient(**settings)  # type: ignore[arg-type]
