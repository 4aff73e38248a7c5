"""RAHF in training: what moves and what does not, learning, export, exact sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.models.backbone import Backbone, LoRA
from align.modules.rahf import RAHFDualModule, RAHFSingleModule
from align.objectives.representation import RepresentationAlignment
from align.records import StepTotals
from align.training.activation_settings import ActivationSettings
from align.training.optimizer import Optimizer
from tests.modules.aligned import FAMILIES, TEXTS, adapters, dual, instructed_batch, loss_of, single, spread, tiny
from tests.modules.fitting import fit, pairs_data

FAST = Optimizer(learning_rate=1e-2, warmup_ratio=0.0, lr_scheduler_type="constant")
BATCH = instructed_batch()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["single", "dual"])
def test_only_the_fresh_adapter_below_the_layer_moves(
    family: str, method: str, tmp_path: Path, pairs_file: Path
) -> None:
    base = tiny(tmp_path, family)
    reading = ActivationSettings([1, 2], max_response=32)
    if method == "dual":
        stage1 = adapters(base, tmp_path / "s", ["good", "bad"])
        module: Any = RAHFDualModule(Backbone(str(base)), stage1=str(stage1), reading=reading, optimizer=FAST)
    else:
        stage1 = adapters(base, tmp_path / "s", ["."], instructions=TEXTS)
        module = RAHFSingleModule(
            Backbone(str(base)), stage1=str(stage1), reading=reading, instructions=TEXTS, optimizer=FAST
        )
    module.build_model()
    names = [n for n, p in module.named_parameters() if p.requires_grad]
    assert names
    assert all(".default." in n and ".2." not in n for n in names)
    wanted = "c_attn" if family == "gpt2" else "_proj"
    assert all(wanted in n for n in names)
    before = {n: p.clone() for n, p in module.named_parameters()}
    flags = [(p.requires_grad, n) for n, p in module.named_parameters()]
    log = fit(module, pairs_data(pairs_file))
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in names), name
    assert flags == [(p.requires_grad, n) for n, p in module.named_parameters()]
    assert module.model.active_adapters[-1] == "default"
    row = log.rows[0]
    assert row["train/layer_01/fve"] == pytest.approx(0, abs=1e-5)
    assert log.series("train/layer_02/fve")[-1] != 0
    assert row["train/loss"] == pytest.approx((row["train/layer_01/error"] + row["train/layer_02/error"]) / 2, rel=1e-4)
    assert row["train/states_not_finite"] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_exports_give_the_same_logits(family: str, tmp_path: Path) -> None:
    """One adapter folder holds start and fresh adapter together; so does a merged folder."""
    from peft import PeftModel

    base = tiny(tmp_path, family)
    module = dual(base, adapters(base, tmp_path / "s", ["good", "bad"]))
    spread(module)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    expected = module.model(ids).logits
    module.export(tmp_path / "adapter")
    module.export(tmp_path / "merged", merge=True)
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "adapter")).eval()
    torch.testing.assert_close(loaded(ids).logits, expected, rtol=1e-5, atol=1e-5)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-5, atol=1e-5)
    with_alone = RAHFSingleModule(Backbone(str(base)), stage1="none", target_init="sft", instructions=TEXTS)
    with_alone.build_model()
    with_alone.export(tmp_path / "alone")
    assert (tmp_path / "alone" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("family", ["llama", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_it_fits_sixteen_examples(family: str, tmp_path: Path) -> None:
    base = tiny(tmp_path, family)
    lora = LoRA(r=16, lora_alpha=32, target_modules="all-linear")
    module = single(
        base,
        adapters(base, tmp_path / "s", ["."], instructions=TEXTS),
        backbone=Backbone(str(base), lora=lora),
        objective=RepresentationAlignment(alpha=1.0),
    )
    batch = instructed_batch((1,) * 16)
    collected = module.collect(batch)
    target = module.objective.target(*collected)
    inside = torch.cat([torch.arange(n + 1) > 0 for n in batch.response_lengths])
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for step in range(steps := 300 if family == "gpt2" else 150):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / steps)
        optimizer.zero_grad()
        module.objective(module.hidden_states(batch).values, target)[:, inside].mean().backward()
        optimizer.step()
    loss_of(module, batch)
    found = module._means["train"].read(lambda s: s)
    for layer in (1, 2):
        assert found[f"layer_{layer:02d}/cosine"] > 0.9
        assert found[f"layer_{layer:02d}/fve"] > 0.7


def test_loss_does_not_see_layout_order_or_padding(base: Path, tmp_path: Path) -> None:
    stage1 = adapters(base, tmp_path / "s", ["."], instructions=TEXTS)
    losses = []
    for layout in ("padded", "shared", "packed"):
        module = single(base, stage1, backbone=Backbone(str(base), layout=layout))
        spread(module)
        losses.append(loss_of(module, BATCH).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)
    rows = instructed_batch((1,) * 4)
    window = single(base, stage1, objective=RepresentationAlignment(reduction="window"), reading={"max_response": 40})
    token = single(base, stage1, reading={"max_response": 40})
    share = sum(rows.response_lengths) / (4 * 40)
    assert loss_of(window, rows).item() == pytest.approx(loss_of(token, rows).item() * share, rel=1e-6)


def test_learned_positions_leave_no_trace_in_v(tmp_path: Path) -> None:
    """On GPT-2 a bad prompt that is the good one after padding of positions gives v = 0; without the shift it does not."""
    base = tiny(tmp_path, "gpt2")
    module = single(base, "none", target_init="sft")
    batch = instructed_batch(same=True)
    good, plain = batch.under(0), None
    from align.models.response_states import response_states

    for layout in ("padded", "shared", "packed"):
        at = lambda begin: response_states(module.model, good, [1, 2], layout=layout, begin=begin).values  # noqa: B023, E731
        begin = [n + 3 for n in good.prompt_lengths]
        shifted = at(begin)
        assert (shifted - at(None)).abs().max() > 1e-3
        plain = shifted if plain is None else plain
        torch.testing.assert_close(shifted, plain, rtol=1e-5, atol=1e-5)


def test_parts_of_a_step_add_up_to_the_whole(base: Path, tmp_path: Path) -> None:
    """Losses, and by its definition the consistency `|mean v|^2 / mean |v|^2`: shares of the parts had a mean of .73 for .22."""
    module = dual(base, adapters(base, tmp_path / "s", ["good", "bad"]), reading={"include_last_prompt_token": True})
    spread(module)
    parts = [instructed_batch((2,), seed=n) for n in range(3)]
    totals = StepTotals(*(sum(values) for values in zip(*(part.totals for part in parts), strict=True)))
    for reduction in ("token", "window"):
        module.objective = RepresentationAlignment(reduction=reduction)
        together = sum(module.loss(part, totals) for part in parts).item()
        found = [module.alignment(part).errors for part in parts]
        count = sum(len(e[0]) for e in found) if reduction == "token" else 6 * (module.reading.max_response + 1)
        assert together == pytest.approx(sum(e.sum().item() for e in found) / (2 * count), rel=1e-5)
    known = module._means["train"].read(lambda sums: 2 * sums)  # as of two processes with the same rows
    whole = [(part.vector, part.weights > 0) for part in map(module.alignment, parts)]
    vectors = torch.cat([vector[:, own] for vector, own in whole], dim=1)
    expected = vectors.mean(1).square().sum(1) / vectors.square().sum(2).mean(1)
    consistency = [known[f"layer_{layer:02d}/consistency"].item() for layer in module.layers]
    assert consistency == pytest.approx(expected.tolist(), rel=1e-5)
