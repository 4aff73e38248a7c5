"""DPO and its relatives: the start, kinds of reference, what is trained."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.models.backbone import Backbone, LoRA
from align.models.references import BaseWithoutAdapters, Cached, FrozenCopy
from align.modules.dpo import DPOModule
from align.objectives.pairwise import IPO, Hinge
from align.training.optimizer import Optimizer
from tests.models.test_reference import disturb
from tests.modules.fitting import fit, pairs_data
from tests.modules.test_methods import LISTS, PAIRS, built
from tests.tiny import save_tiny


class TestDPO:
    @pytest.mark.parametrize(
        ("lora", "reference"),
        [
            (None, None),
            (LoRA(r=2), None),
            (LoRA(r=2, lora_dropout=0.1), BaseWithoutAdapters()),
            (LoRA(r=2), FrozenCopy()),
            (None, Cached()),
        ],
    )
    def test_starts_at_exactly_log_two(
        self, lora: LoRA | None, reference, model_folder: Path, pairs_file: Path
    ) -> None:
        module = DPOModule(
            Backbone(str(model_folder), lora=lora), reference=reference, optimizer=Optimizer(learning_rate=1e-2)
        )
        log = fit(module, pairs_data(pairs_file))
        first = log.rows[0]
        # a cached value was computed in another batch, so it may differ in the last bits
        tolerance = 1e-5 if isinstance(reference, Cached) else 0
        assert first["train/loss"] == pytest.approx(torch.tensor(math.log(2)).item(), abs=tolerance)
        assert first["train/rewards/margins"] == pytest.approx(0, abs=tolerance)
        if not tolerance:
            assert first["train/rewards/accuracies"] == 0
        assert log.series("train/kl")[-1] != 0

    def test_kinds_of_reference_train_the_same(self, model_folder: Path, pairs_file: Path) -> None:
        losses = []
        for reference in (FrozenCopy(), Cached(), Cached()):  # the second cached run reads the file of the first
            module = DPOModule(
                Backbone(str(model_folder)), reference=reference, optimizer=Optimizer(learning_rate=1e-2)
            )
            losses.append(fit(module, pairs_data(pairs_file), max_epochs=2).series("train/loss"))
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
        assert losses[2] == losses[1]

    @pytest.mark.parametrize("objective", [IPO(0.1), IPO(0.1, "sequence"), Hinge(0.1)])
    def test_other_objectives_at_the_start(self, objective, model_folder: Path) -> None:
        module = built(DPOModule, model_folder, objective=objective)
        loss = module.loss(PAIRS, PAIRS.totals).item()
        assert loss == pytest.approx(1.0 if isinstance(objective, Hinge) else 25.0, rel=1e-9)

    def test_likelihood_term_is_the_mean_over_responses(self, model_folder: Path) -> None:
        module = built(DPOModule, model_folder, nll_weight=0.5)
        means = module.score(PAIRS).means[0::2]
        assert module.loss(PAIRS, PAIRS.totals).item() == pytest.approx(
            math.log(2) - 0.5 * means.mean().item(), rel=1e-9
        )

    def test_a_group_of_three_is_refused(self, model_folder: Path) -> None:
        with pytest.raises(ValueError, match="needs groups of 2 candidates"):
            built(DPOModule, model_folder).loss(LISTS, LISTS.totals)

    def test_gradients_reach_adapters_only(self, model_folder: Path) -> None:
        module = built(DPOModule, model_folder, lora=LoRA(r=2))
        disturb(module.model)
        module.loss(PAIRS, PAIRS.totals).backward()
        touched = {name for name, p in module.named_parameters() if p.grad is not None}
        assert touched == {name for name, p in module.named_parameters() if "lora_" in name}

    def test_reference_does_not_move(self, model_folder: Path, pairs_file: Path) -> None:
        module = DPOModule(Backbone(str(model_folder)), optimizer=Optimizer(learning_rate=1e-2))
        fit(module, pairs_data(pairs_file))
        original = AutoModelForCausalLM.from_pretrained(model_folder)
        for own, start in zip(module.reference_model.parameters(), original.parameters(), strict=True):
            assert torch.equal(own, start)


def test_gradient_checkpointing_changes_no_number(tmp_path: Path, pairs_file: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    losses = []
    for checkpointing in (False, True):
        backbone = Backbone(str(folder), gradient_checkpointing=checkpointing, lora=LoRA(r=2))
        module = DPOModule(backbone, optimizer=Optimizer(learning_rate=1e-2))
        losses.append(fit(module, pairs_data(pairs_file)).series("train/loss"))
    assert losses[0] == losses[1]
