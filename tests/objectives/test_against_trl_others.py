"""TRL's CPO (SimPO), ORPO and KTO trainers on the same batch: loss and gradient."""

from __future__ import annotations

import pytest
import torch

from align.objectives.pointwise import KTO, PointwiseContext
from align.objectives.reference_free import CPO, ORPO, SimPO
from align.records import CandidateBatch, EncodedGroup, PointScores
from align.scoring import score_responses
from align.training.mismatched_prompts import mismatched
from tests.objectives.trl_models import GROUPS, OPTIONS, assert_same, models, pair_batch, pairs
from tests.tiny import tiny_tokenizer

EQUAL = [(p, c[:2], r) for p, c, r in GROUPS]
ROWS = [{"prompt": "a", "chosen": "b", "rejected": "c"}]


def pair_inputs(groups) -> dict[str, torch.Tensor]:
    inputs = {}
    for place, name in ((1, "chosen"), (2, "rejected")):
        sequences = [torch.tensor(g[0] + g[place]) for g in groups]
        labels = [torch.tensor([-100] * len(g[0]) + g[place]) for g in groups]
        pad = torch.nn.utils.rnn.pad_sequence
        inputs[f"{name}_input_ids"] = pad(sequences, batch_first=True, padding_value=2)
        inputs[f"{name}_attention_mask"] = pad([torch.ones_like(s) for s in sequences], batch_first=True)
        inputs[f"{name}_labels"] = pad(labels, batch_first=True, padding_value=-100)
    return inputs


@pytest.mark.parametrize(
    ("options", "objective"),
    [
        ({"loss_type": "simpo", "simpo_gamma": 0.7, "cpo_alpha": 0.0}, SimPO(2.0, 0.7)),
        ({"loss_type": "simpo", "simpo_gamma": 0.7, "cpo_alpha": 0.0, "label_smoothing": 0.1}, SimPO(2.0, 0.7, 0.1)),
        ({"loss_type": "sigmoid", "cpo_alpha": 0.6}, CPO(2.0, nll_weight=0.6)),
        ({"loss_type": "sigmoid", "cpo_alpha": 0.6, "label_smoothing": 0.1}, CPO(2.0, 0.1, 0.6)),
    ],
)
def test_cpo_and_simpo(options, objective, tmp_path) -> None:
    from datasets import Dataset
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    policy, frozen = models()
    args = CPOConfig(output_dir=str(tmp_path), beta=2.0, **OPTIONS, **options)
    trainer = CPOTrainer(
        model=policy, args=args, train_dataset=Dataset.from_list(ROWS), processing_class=tiny_tokenizer()
    )
    theirs = trainer.compute_loss(policy, pair_inputs(EQUAL))
    assert_same(policy, objective(*pairs(policy, frozen, pair_batch(EQUAL))).mean(), theirs)


def test_orpo(tmp_path) -> None:
    """TRL's likelihood term counts the prompt's tokens too, so its odds-ratio part is compared, with our likelihood."""
    from datasets import Dataset
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    policy, frozen = models()
    args = ORPOConfig(output_dir=str(tmp_path), beta=0.3, **OPTIONS)
    trainer = ORPOTrainer(
        model=policy, args=args, train_dataset=Dataset.from_list(ROWS), processing_class=tiny_tokenizer()
    )
    forward = trainer.concatenated_forward(policy, pair_inputs(GROUPS))
    theirs = -forward[0].mean() - trainer.odds_ratio_loss(forward[0], forward[1])[0].mean()
    assert_same(policy, ORPO(0.3)(*pairs(policy, frozen, pair_batch(GROUPS))).mean(), theirs)


def test_kto(tmp_path) -> None:
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

    policy, frozen = models()
    singles = [(p, c, True) for p, c, _ in GROUPS] + [([0, 40, 41], [42, 43, 1], False)]
    options = {"desirable_weight": 1.0, "undesirable_weight": 1.5, "per_device_train_batch_size": 2}
    args = KTOConfig(output_dir=str(tmp_path), beta=0.2, **OPTIONS, **options)
    rows = Dataset.from_list([{"prompt": "a", "completion": "b", "label": n == 0} for n in range(2)])
    trainer = KTOTrainer(
        model=policy, ref_model=frozen, args=args, train_dataset=rows, processing_class=tiny_tokenizer()
    )
    responses = [r for _, r, _ in singles]
    examples = [
        {"prompt_ids": p, "completion_ids": r, "KL_completion_ids": responses[n - 1], "label": label}
        for n, (p, r, label) in enumerate(singles)
    ]
    theirs = trainer.compute_loss(policy, DataCollatorForUnpairedPreference(pad_token_id=2)(examples))

    batch = CandidateBatch.of(
        [EncodedGroup(f"g{n}", p, [r], [0], [[float(y)]], 1.0, [False]) for n, (p, r, y) in enumerate(singles)]
    )
    foreign, real = mismatched(batch, 128)
    assert real.all()
    with torch.no_grad():
        anchor = (score_responses(policy, foreign).logprobs - score_responses(frozen, foreign).logprobs).mean()
        reference = score_responses(frozen, batch)
    own, fixed = (PointScores.of(s, batch, batch.scores[:, 0]) for s in (score_responses(policy, batch), reference))
    losses = KTO(0.2, 1.0, 1.5)(own, fixed, PointwiseContext(mismatched_kl=anchor.clamp(min=0)))
    assert_same(policy, losses.mean(), theirs)
