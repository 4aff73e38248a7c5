"""Preference methods inside the module: what they ask of batch, reference and data, and that they learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from align.data.batching import Batching
from align.errors import ConfigError, DataError
from align.models.backbone import LoRA
from align.models.references import Cached, FrozenCopy, NoReference
from align.objectives.pairwise import DPO
from align.objectives.pairwise_absolute import APOZero
from align.objectives.pointwise import BCO, KTO, PMPO
from align.objectives.reference_free import CPL, ORPO, SimPO
from align.objectives.scored import DRO, SPPO, FilteredLikelihood, RewardWeighted
from align.objectives.weighting import WPO
from align.records import CandidateBatch
from align.scoring.reductions import Desensitized, Discounted
from tests.formulas import statistics as plain
from tests.models.test_reference import disturb
from tests.modules.fitting import fit, pairs_data
from tests.modules.preference_runs import LABELLED, ROWS, build, built
from tests.tiny import random_batch

POINTWISE = [KTO(0.1), BCO(0.1), PMPO(0.5), RewardWeighted(), FilteredLikelihood(0.5), SPPO(0.1), DRO(0.1)]
PAIRWISE = [SimPO(), ORPO(), CPL(), APOZero()]


@pytest.mark.parametrize("lora", [None, pytest.param(LoRA(r=4), marks=pytest.mark.slow)], ids=["full", "lora"])
@pytest.mark.parametrize("objective", [*POINTWISE, *PAIRWISE], ids=lambda o: type(o).__name__)
def test_learns(objective, lora: LoRA | None, model_folder: Path, scored_file: Path) -> None:
    log = fit(build(model_folder, objective, lora), pairs_data(scored_file, groups=8), max_epochs=4)
    losses = log.series("train/loss")
    epoch = len(losses) // 4
    assert sum(losses[-epoch:]) < sum(losses[:epoch])  # of all rows
    paired = objective.view == "pairs"
    names = ("rewards/chosen", "rewards/rejected") if objective.view in ("pairs", "unpaired") else ("rewards",)
    assert all(log.series(f"train/{name}") for name in names)
    assert bool(log.series("train/rewards/margins")) == paired
    if "mismatched_kl" in objective.requires:
        assert min(log.series("train/kl")) >= 0


@pytest.mark.parametrize(
    "objective", [PMPO(0.5), RewardWeighted(), SPPO(0.1), DRO(1.0)], ids=lambda o: type(o).__name__
)
def test_accumulation_equals_the_big_batch(objective, model_folder: Path, scored_file: Path) -> None:
    big, small = build(model_folder, objective), build(model_folder, objective)
    fit(big, pairs_data(scored_file, groups=40))
    fit(small, pairs_data(scored_file, batching=Batching(groups=40, tokens=500)))
    for mine, theirs in zip(small.parameters(), big.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layout", ["padded", "shared", "packed"])
@pytest.mark.parametrize("objective", [KTO(0.1), PMPO(0.5), DRO(1.0)], ids=lambda o: type(o).__name__)
def test_layouts_agree(objective, layout: str, model_folder: Path) -> None:
    losses = []
    for name in ("auto", layout):
        module = built(model_folder, objective, layout=name)
        disturb(module.model)
        losses.append(module.loss(LABELLED, LABELLED.totals).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-7)


def test_pmpo_takes_the_divergence_of_full_logits(model_folder: Path) -> None:
    module = built(model_folder, PMPO(0.5, 2.0), lora=LoRA(r=2))
    disturb(module.model)
    policy = module.scored(module.model, LABELLED).logprobs
    with module.model.disable_adapter():
        base = list(plain.response_logprobs(module.model, LABELLED))
    kl = torch.stack(
        [
            (r.exp() * (r - p)).sum()
            for (p, _), (r, _) in zip(plain.response_logprobs(module.model, LABELLED), base, strict=True)
        ]
    )
    signs = torch.tensor([-0.5, 0.5, -0.5, 0.5])
    assert module.loss(LABELLED, LABELLED.totals).item() == pytest.approx(
        (signs * policy + 2 * kl).mean().item(), rel=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": PMPO(), "reference": Cached()}, "reference Cached is not a model"),
        ({"objective": PMPO(), "reference": NoReference()}, "reference NoReference is not a model"),
        ({"objective": KTO(), "reference": Cached()}, "needs responses under other prompts"),
        ({"objective": DPO(), "reduction": Discounted(), "reference": Cached()}, "needs weighted sums over tokens"),
        ({"objective": KTO(), "nll_weight": 1.0}, "nll_weight and weighting are for pairs, KTO takes single"),
        ({"objective": DPO(), "weighting": WPO(), "reduction": Desensitized()}, "weighting is defined on plain sums"),
    ],
)
def test_settings_that_do_not_go_together(options, message: str, model_folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        built(model_folder, **options)


def test_missing_labels_and_groups_of_two_are_refused(model_folder: Path) -> None:
    module = built(model_folder, BCO())
    with pytest.raises(DataError, match="needs a label for every response"):
        module.loss(ROWS, ROWS.totals)
    pairs = random_batch([2, 2], vocab=200)._replace(scores=torch.ones(4, 1))
    with pytest.raises(ValueError, match="needs groups of 1 candidate"):
        module.loss(pairs, pairs.totals)


def test_weighting_multiplies_the_losses(model_folder: Path) -> None:
    batch: CandidateBatch = random_batch([2, 2, 2], vocab=200)
    module = built(model_folder, DPO(0.1), weighting=WPO(clamp=False), reference=FrozenCopy())
    excess = [
        (lp.gather(1, y[:, None]).sum() - (lp.exp() ** 2).sum(-1).log().sum()) / len(y)
        for lp, y in plain.response_logprobs(module.model, batch)
    ]
    weights = torch.stack(excess).view(-1, 2).sum(1).exp()
    expected = weights.mean() * torch.tensor(2.0).log()  # policy and reference agree
    assert module.loss(batch, batch.totals).item() == pytest.approx(expected.item(), rel=1e-6)
