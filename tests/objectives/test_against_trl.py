"""Every loss of TRL's DPO trainer, its weighting and its length desensitisation: loss and gradient on the same batch."""

from __future__ import annotations

from typing import Any

import pytest

from align.objectives.f_divergence import FDPO, Alpha, ForwardKL, JensenShannon
from align.objectives.optimal_transport import AOT, AOTUnpaired
from align.objectives.pairwise import DPO, IPO, Hinge
from align.objectives.pairwise_absolute import APODown, APOZero, BCOPair, NCAPair, SPPOHard
from align.objectives.pairwise_margin import EXO, DiscoPOP, LengthNormalizedDPO, RobustDPO
from align.objectives.reference_free import ChosenLikelihood
from align.objectives.sums import PairSum, PairTerm
from align.objectives.weighting import WPO
from align.scoring.reductions import Desensitized
from tests.objectives.trl_models import GROUPS, OPTIONS, assert_same, models, pair_batch, pairs, scores
from tests.tiny import tiny_tokenizer

SMOOTH = {"label_smoothing": 0.1}
LOSSES: dict[str, tuple[dict[str, Any], Any]] = {
    "sigmoid": ({}, DPO(0.2)),
    "hinge": ({}, Hinge(0.2)),
    "ipo": ({}, IPO(0.2, "token")),
    "exo_pair": (SMOOTH, EXO(0.2, 0.1)),
    "nca_pair": ({}, NCAPair(0.2)),
    "robust": (SMOOTH, RobustDPO(0.2, 0.1)),
    "bco_pair": ({}, BCOPair(0.2)),
    "sppo_hard": ({}, SPPOHard(0.2)),
    "aot": (SMOOTH, AOT(0.2, 0.1)),
    "aot_unpaired": (SMOOTH, AOTUnpaired(0.2, 0.1)),
    "apo_zero": ({}, APOZero(0.2)),
    "apo_down": ({}, APODown(0.2)),
    "discopop": ({"discopop_tau": 0.3}, DiscoPOP(0.2, 0.3)),
    "sft": ({}, ChosenLikelihood()),
    "sigmoid_norm": ({}, LengthNormalizedDPO(0.2)),
}
DIVERGENCES = {"forward_kl": ForwardKL(), "js_divergence": JensenShannon(), "alpha_divergence": Alpha(0.4)}
EQUAL = [(p, c[:2], r) for p, c, r in GROUPS]
"""Chosen responses of one length, where a mean over the batch's tokens is a mean of means."""


def their_loss(policy, frozen, groups, folder, loss_type, **options):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    args = DPOConfig(output_dir=str(folder), loss_type=loss_type, beta=0.2, **OPTIONS, **options)
    rows = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    trainer = DPOTrainer(
        model=policy, ref_model=frozen, args=args, train_dataset=rows, processing_class=tiny_tokenizer()
    )
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    inputs = DataCollatorForPreference(pad_token_id=2)([dict(zip(names, g, strict=True)) for g in groups])
    return trainer.compute_loss(policy, inputs)


@pytest.mark.parametrize("loss_type", LOSSES)
def test_losses(loss_type: str, tmp_path) -> None:
    options, objective = LOSSES[loss_type]
    groups = EQUAL if loss_type == "sft" else GROUPS
    policy, frozen = models()
    theirs = their_loss(policy, frozen, groups, tmp_path, [loss_type], **options)
    assert_same(policy, objective(*pairs(policy, frozen, pair_batch(groups))).mean(), theirs)


def test_no_loss_of_the_trainer_is_missing() -> None:
    import inspect
    import re

    from trl import DPOTrainer

    names = set(re.findall(r'loss_type == "(\w+)"', inspect.getsource(DPOTrainer._compute_loss)))
    assert names == set(LOSSES)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergences(name: str, tmp_path) -> None:
    policy, frozen = models()
    options = {"f_divergence_type": name, "f_alpha_divergence_coef": 0.4}
    theirs = their_loss(policy, frozen, GROUPS, tmp_path, ["sigmoid"], **options)
    ours = FDPO(0.2, divergence=DIVERGENCES[name])(*pairs(policy, frozen, pair_batch(GROUPS)))
    assert_same(policy, ours.mean(), theirs)


def test_sums(tmp_path) -> None:
    policy, frozen = models()
    theirs = their_loss(policy, frozen, GROUPS, tmp_path, ["sigmoid", "bco_pair"], loss_weights=[0.8, 0.2])
    ours = PairSum([PairTerm(DPO(0.2), 0.8), PairTerm(BCOPair(0.2), 0.2)])
    assert_same(policy, ours(*pairs(policy, frozen, pair_batch(GROUPS))).mean(), theirs)


def test_length_desensitisation(tmp_path) -> None:
    policy, frozen = models()
    theirs = their_loss(policy, frozen, GROUPS, tmp_path, ["sigmoid"], ld_alpha=0.3)
    ours = DPO(0.2)(*pairs(policy, frozen, pair_batch(GROUPS), Desensitized(0.3)))
    assert_same(policy, ours.mean(), theirs)


def test_weighting(tmp_path) -> None:
    policy, frozen = models()
    theirs = their_loss(policy, frozen, GROUPS, tmp_path, ["sigmoid"], use_weighting=True)
    batch = pair_batch(GROUPS)
    weights = WPO(clamp=False)(scores(policy, batch, collisions=True), batch)
    assert not weights.requires_grad
    assert_same(policy, (weights * DPO(0.2)(*pairs(policy, frozen, batch))).mean(), theirs)
