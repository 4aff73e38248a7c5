"""Settings that mean nothing beside others are refused when a run is put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from align.callbacks.evaluation import JudgeEvaluation, RewardEvaluation
from align.errors import ConfigError
from align.judges.preference import GoldJudge
from align.models.backbone import Backbone, LoRA
from align.models.references import Reference
from align.modules.dpo import DPOModule
from align.modules.hir import HIRModule
from align.modules.pro import PROModule
from align.modules.reward_model import RewardModel
from align.objectives.pointwise import KTO
from align.objectives.reference_free import SimPO
from align.objectives.regression import Regression
from align.objectives.reward import BradleyTerry
from align.objectives.weighting import WPO
from align.sampling.generation import Generation
from align.scoring.reductions import Discounted
from align.training.optimizer import Optimizer

MODEL = Backbone("model")
CASES: list[tuple[Callable[[], Any], str]] = [
    (lambda: DPOModule(MODEL, attribute="helpfulness"), "attribute is for single responses, DPO takes pairs"),
    (lambda: DPOModule(MODEL, KTO(), nll_weight=0.5), "nll_weight and weighting are for pairs, KTO"),
    (lambda: DPOModule(MODEL, KTO(), weighting=WPO()), "nll_weight and weighting are for pairs, KTO"),
    (lambda: DPOModule(MODEL, weighting=WPO(), reduction=Discounted()), "leave out either it or reduction"),
    (lambda: DPOModule(MODEL, SimPO(), reference=Reference()), "SimPO has no reference"),
    (lambda: PROModule(MODEL, reference=Reference()), "PRO has no reference"),
    (lambda: HIRModule(MODEL, reference=Reference()), "reference has no effect without objective.kl_weight"),
    (lambda: HIRModule(replace(MODEL, lora=LoRA()), init_tokens=["x"]), "init_tokens changes the embeddings"),
    (lambda: RewardModel(MODEL, clamp=True), "clamp has no effect on a reward model of rankings"),
    (lambda: RewardModel(MODEL, attribute="a"), r"attribute has no effect .*BradleyTerry\) reads none"),
    (lambda: RewardModel(MODEL, Regression(), attribute="a"), r"attribute .*Regression\) reads all labels"),
    (lambda: Regression(lm_weight=0.0, lm_on="response"), "lm_on response has no effect"),
    (lambda: RewardModel(replace(MODEL, logit_bytes=9)), "backbone.logit_bytes has no effect"),
    (lambda: Optimizer(lr_scheduler_type="constant", warmup_ratio=0.2), "no effect on lr_scheduler_type constant"),
    (lambda: JudgeEvaluation(GoldJudge(), generation=Generation(num_samples=2)), "one response of each prompt"),
    (lambda: RewardEvaluation({}, kl=True), "RewardEvaluation.kl is estimated at temperature 1"),
]


@pytest.mark.parametrize(("build", "says"), CASES)
def test_what_would_be_ignored_is_refused(build: Callable[[], Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build()


def test_what_is_read_is_taken() -> None:
    RewardModel(MODEL, BradleyTerry(margin_scale=1.0), attribute="a")
    RewardModel(MODEL, Regression(), clamp=True)
    RewardModel(replace(MODEL, logit_bytes=9), Regression(lm_weight=0.1))


def test_warm_up_is_a_tenth_or_none() -> None:
    import torch

    def rates(settings: Optimizer) -> list[float]:
        built = settings.build([torch.nn.Parameter(torch.ones(1))], 1.0, 20, fused=False)
        found = []
        for _ in range(3):
            found.append(built["optimizer"].param_groups[0]["lr"])
            built["optimizer"].step()
            built["lr_scheduler"]["scheduler"].step()
        return found

    assert rates(Optimizer()) == rates(Optimizer(warmup_ratio=0.1)) == [0.0, 0.5, 1.0]
    assert rates(Optimizer(lr_scheduler_type="constant")) == [1.0, 1.0, 1.0]
