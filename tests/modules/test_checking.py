"""The self-check of a run: before the first step, on its own data; what it finds decides, and is kept."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from align.errors import ModelError
from align.models.backbone import Backbone, LoRA
from align.modules.dpo import DPOModule
from align.modules.hir import HIRModule
from align.modules.pro import PROModule
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.objectives.pointwise import KTO
from align.records import CandidateBatch, EncodedGroup
from align.scoring import responses
from align.scoring.layouts import Plan, lay_out
from align.scoring.packed_row import PackedRow
from align.training.optimizer import Optimizer
from align.training.self_check import check_layouts
from tests.checks.test_checked_rows import DIALOGUE, Table, group
from tests.checks.test_layouts import leaking, skip_scale
from tests.modules.fitting import fit, pairs_data
from tests.tiny import random_batch

METHODS = [SFTModule, RewardModel, DPOModule, PROModule, HIRModule]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_checked_in_the_layout_it_uses(method: Any, model_folder: Path, pairs_file: Path) -> None:
    module = method(Backbone(str(model_folder)))
    fit(module, pairs_data(pairs_file), max_steps=1)
    assert module.checked.startswith("packed rows, values off by ")
    assert "(float32) against plain forward passes" in module.checked
    assert ("policy and reference start equal" in module.checked) == (method is DPOModule)


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "bf16-mixed"), ("bfloat16", "32-true")])
def test_the_precision_is_that_of_the_run(dtype: Any, precision: str, model_folder: Path, pairs_file: Path) -> None:
    """Mixed, or 16-bit weights, which an optimiser that keeps what is cut off trains."""
    optimizer = Optimizer(kahan=True, adam_beta2=0.95) if dtype == "bfloat16" else Optimizer()
    module = DPOModule(Backbone(str(model_folder), dtype=dtype), optimizer=optimizer)
    fit(module, pairs_data(pairs_file), max_steps=1, precision=precision, gradient_clip_val=None)
    assert "(bfloat16) against" in module.checked


@pytest.mark.parametrize("lora", [None, LoRA(r=2, lora_dropout=0.1)])
def test_nothing_of_the_run_is_changed(lora: LoRA | None, model_folder: Path, pairs_file: Path) -> None:
    """Random streams, weights, gradients and modes are what they were: runs with and without the check are the same."""
    weights = []
    for check in (True, False):
        module = SFTModule(Backbone(str(model_folder), lora=lora, check=check, dropout=True))
        states: list[Any] = []

        class Look(L.Callback):
            def on_train_start(self, trainer: Any, pl_module: Any, states: list[Any] = states) -> None:
                states += [torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()]  # type: ignore[index]
                assert all(p.grad is None for p in pl_module.parameters())
                assert pl_module.model.training

        fit(module, pairs_data(pairs_file), max_steps=3, callbacks=[Look()])
        weights.append([*(p.detach() for p in module.parameters()), states[0], torch.as_tensor(states[1])])
        assert module.checked == ("switched off" if not check else module.checked)
        assert module.checked
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_a_layout_that_fails_is_replaced_for_policy_and_reference(
    model_folder: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = DPOModule(Backbone(str(model_folder), dtype="float64"))
    expected = fit(right, pairs_data(pairs_file)).series("train/loss")
    monkeypatch.setattr(PackedRow, "attend", leaking())
    module = DPOModule(Backbone(str(model_folder), dtype="float64"))
    with pytest.warns(
        UserWarning, match=r"self-check: packed rows do not agree .* this run uses shared rows, which do"
    ):
        found = fit(module, pairs_data(pairs_file)).series("train/loss")
    assert found == pytest.approx(expected, rel=1e-6)
    assert module.checked.startswith("shared rows")
    blind = DPOModule(Backbone(str(model_folder), dtype="float64", check=False))
    assert fit(blind, pairs_data(pairs_file)).series("train/loss") != pytest.approx(expected, rel=1e-6)
    asked = DPOModule(Backbone(str(model_folder), dtype="float64", layout="packed"))
    with pytest.raises(ModelError, match=r"set backbone\.layout to auto"):
        fit(asked, pairs_data(pairs_file))


def test_a_model_that_fits_no_layout_is_refused_before_the_first_step(
    model_folder: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = DPOModule(Backbone(str(model_folder)))
    module.build_model()
    skip_scale(monkeypatch, 1.01)
    before = [p.detach().clone() for p in module.model.parameters()]
    with pytest.raises(ModelError, match=r"model type llama: log-probabilities agree .* in no layout"):
        fit(module, pairs_data(pairs_file))
    assert all(torch.equal(a, b) for a, b in zip(before, module.model.parameters(), strict=True))


@pytest.mark.parametrize("method", ["pairs", "points", "lists"])
def test_a_reference_that_is_not_the_policy_is_refused(method: str, model_folder: Path, pairs_file: Path) -> None:
    """Its weights are a twentieth larger."""
    from align.objectives.lists import LiPO

    backbone = Backbone(str(model_folder))
    module: Any = {
        "pairs": lambda: DPOModule(backbone),
        "points": lambda: DPOModule(backbone, KTO()),
        "lists": lambda: PROModule(backbone, LiPO()),
    }[method]()
    module.build_model()
    with torch.no_grad():
        for parameter in module.reference_model.parameters():
            parameter.mul_(1.05)
    with pytest.raises(ModelError, match="policy and reference differ at the first step"):
        fit(module, pairs_data(pairs_file))


def test_a_reference_of_its_own_may_differ(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    from align.models.references import FrozenCopy
    from tests.tiny import save_tiny

    save_tiny(tmp_path / "other", initializer_range=0.05)
    module = DPOModule(Backbone(str(model_folder)), reference=FrozenCopy(str(tmp_path / "other")))
    fit(module, pairs_data(pairs_file), max_steps=1)
    assert "start equal" not in module.checked


def test_loaders_without_a_data_module_are_checked_at_their_first_batch(model_folder: Path) -> None:
    module = SFTModule(Backbone(str(model_folder)))
    loader: Any = DataLoader([random_batch([1, 1]), random_batch([1, 1], seed=1)], batch_size=None)  # type: ignore[arg-type]
    trainer = L.Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, loader)
    assert module.checked.startswith("packed rows")


def test_random_numbers_in_training_mode_are_seen(model_folder: Path, pairs_file: Path) -> None:
    """As a router's jitter would: noise that no dropout setting asked for."""
    module = SFTModule(Backbone(str(model_folder)))
    module.build_model()
    block: Any = module.model.model.layers[0]  # type: ignore[union-attr,index]
    block.mlp.register_forward_hook(
        lambda part, inputs, output: output * (1 + 0.1 * torch.rand_like(output)) if part.training else output
    )
    with pytest.raises(ModelError, match="in no layout"):
        fit(module, pairs_data(pairs_file))


OWN_PROMPTS = group(12, 9, 14)._replace(own_prompt_ids=[list(range(12)), list(range(40, 56))])
"""A pair whose dialogues differ before the last turn."""


def checked(model_folder: Path, rows: EncodedGroup, **settings: Any) -> str:
    module = SFTModule(Backbone(str(model_folder)), **settings)
    module.build_model()
    return check_layouts(module, Table([rows]), gradients=True)


def sabotage(monkeypatch: pytest.MonkeyPatch, wrong: Any) -> None:
    """Lay batches out as packed rows by something wrong."""

    def laid_out(batch: CandidateBatch, layout: str, *, score_prompts: bool) -> Plan:
        return (
            wrong(batch, score_prompts) if layout == "packed" else lay_out(batch, layout, score_prompts=score_prompts)
        )

    monkeypatch.setattr(responses, "lay_out", laid_out)


def packed(batch: CandidateBatch, score_prompts: bool) -> Plan:
    return lay_out(batch, "packed", score_prompts=score_prompts)


@pytest.mark.parametrize("rows", [DIALOGUE, OWN_PROMPTS])
@pytest.mark.parametrize("loss_on", ["turns", "all"])
def test_scored_turns_and_prompts_of_their_own_pass(rows: EncodedGroup, loss_on: str, model_folder: Path) -> None:
    assert checked(model_folder, rows, loss_on=loss_on).startswith("packed rows, values off by ")


def test_a_layout_that_scores_other_turns_is_seen(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(batch: CandidateBatch, score_prompts: bool) -> Plan:
        assert batch.response_weights is not None
        return packed(batch._replace(response_weights=np.roll(batch.response_weights, 1)), score_prompts)

    sabotage(monkeypatch, shifted)
    with pytest.warns(UserWarning, match=r"self-check: packed rows do not agree .*values off by"):
        assert checked(model_folder, DIALOGUE).startswith("shared rows")


def test_a_layout_that_gives_all_candidates_the_first_prompt_is_seen(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(batch: CandidateBatch, score_prompts: bool) -> Plan:
        size = batch.prompt_lengths[0]
        same = {"prompt_ids": batch.prompt_ids[:size], "prompt_lengths": (size,), "prompt_of": (0, 0)}
        return packed(batch._replace(**same), score_prompts)

    sabotage(monkeypatch, first)
    with pytest.warns(UserWarning, match=r"self-check: packed rows do not agree .*values off by"):
        assert checked(model_folder, OWN_PROMPTS).startswith("shared rows")
    assert checked(model_folder, group(12, 9, 14)).startswith("packed rows")


def test_a_layout_that_scores_prompts_wrongly_is_seen_where_they_are_scored(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(batch: CandidateBatch, score_prompts: bool) -> Plan:
        plan = packed(batch, score_prompts)
        return plan._replace(predictors=plan.predictors.roll(1)) if score_prompts else plan

    sabotage(monkeypatch, shifted)
    assert checked(model_folder, group(12, 9, 14), loss_on="response").startswith("packed rows")
    with pytest.warns(UserWarning, match=r"self-check: packed rows do not agree .*values off by"):
        assert checked(model_folder, group(12, 9, 14), loss_on="all").startswith("shared rows")
