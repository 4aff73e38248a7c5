"""Exact properties of RAHF's second stage, on a tiny Llama and a tiny GPT-2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from align.models.adapters import adapters_active
from align.models.backbone import Backbone
from align.modules.rahf import DualPrompts
from align.objectives.representation import RepresentationAlignment
from align.records import CandidateBatch
from tests.modules.aligned import (
    FAMILIES,
    TEXTS,
    adapters,
    dual,
    instructed_batch,
    instructed_groups,
    loss_of,
    single,
    spread,
    tiny,
)

BATCH = instructed_batch()


@pytest.fixture(params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tiny(tmp_path, request.param)


def test_zero_alpha_does_nothing(base: Path, tmp_path: Path) -> None:
    """Loss 0, finite zero gradients, and a step without decay leaves every bit."""
    stage1 = adapters(base, tmp_path / "s", ["good", "bad"])
    for name in ("l2", "mse"):
        module = dual(base, stage1, objective=RepresentationAlignment(alpha=0, loss=name))
        loss = loss_of(module, BATCH)
        assert loss.item() == 0
        loss.backward()
        trained = [p for p in module.parameters() if p.requires_grad]
        assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in trained)
        before = module.score(BATCH).logprobs
        torch.optim.AdamW(trained, lr=1.0, weight_decay=0.0).step()
        assert torch.equal(module.score(BATCH).logprobs, before)


def test_equal_instructions_or_models_give_no_difference(base: Path, tmp_path: Path) -> None:
    one = single(base, adapters(base, tmp_path / "one", ["."], instructions=TEXTS))
    assert (one.collect(instructed_batch(same=True)).difference == 0).all()
    two = dual(base, adapters(base, tmp_path / "two", ["good", "bad"], size=0.0))
    assert (two.collect(BATCH).difference == 0).all()
    assert loss_of(two, BATCH).item() == 0


def test_at_the_start_the_loss_is_alpha_v(base: Path, tmp_path: Path) -> None:
    """l2: alpha mean |v|; mse: alpha^2 mean v^2; nothing explained; no gradient on A, some on every B."""
    stage1 = adapters(base, tmp_path / "s", ["good", "bad"])
    for name in ("l2", "mse"):
        losses = []
        for alpha in (2.0, 4.0):
            module = dual(base, stage1, objective=RepresentationAlignment(alpha=alpha, loss=name))
            losses.append(loss_of(module, BATCH))
        v = module.collect(BATCH).difference
        inside = ~torch.cat([torch.arange(n + 1) == 0 for n in BATCH.response_lengths])
        sizes = v.norm(dim=-1) if name == "l2" else v.pow(2).mean(-1)
        expected = (2.0 if name == "l2" else 4.0) * sizes[:, inside].mean()
        torch.testing.assert_close(losses[0].detach(), expected)
        torch.testing.assert_close(losses[1], losses[0] * (2 if name == "l2" else 4))
        assert module._means["train"].read(lambda s: s)["layer_01/fve"].item() == pytest.approx(0, abs=1e-6)
        losses[1].backward()
        for path, parameter in module.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, path
                assert (parameter.grad == 0).all() == ("lora_A" in path), path


def test_swapping_instructions_is_a_sign(base: Path, tmp_path: Path) -> None:
    stage1 = adapters(base, tmp_path / "s", ["."], instructions=TEXTS)
    swapped = BATCH._replace(instructed=BATCH.instructed[::-1])
    plus = single(base, stage1, objective=RepresentationAlignment(alpha=3.0))
    minus = single(base, stage1, objective=RepresentationAlignment(alpha=-3.0))
    for module in (plus, minus):
        spread(module)
    assert torch.equal(loss_of(plus, BATCH), loss_of(minus, swapped))


def test_single_without_stage_equals_untrained_stage_equals_contrast_of_copies(base: Path, tmp_path: Path) -> None:
    """LoRRA is SCIT whose first stage learned nothing, and Dual whose two models are the base: the loss is bitwise."""
    lorra = single(base, "none", target_init="sft")
    untrained = single(base, adapters(base, tmp_path / "one", ["."], 0.0, TEXTS))
    copies = dual(
        base,
        adapters(base, tmp_path / "two", ["good", "bad"], size=0.0),
        prompts=DualPrompts("contrast", texts=TEXTS),
    )
    losses = []
    for module in (lorra, untrained, copies):
        spread(module)
        losses.append(loss_of(module, BATCH))
    assert losses[0] > 0
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])


def test_the_released_target_is_that_of_three_passes(base: Path, tmp_path: Path) -> None:
    """(1 + alpha) h_good - alpha h_bad, all under the good instruction."""
    stage1 = adapters(base, tmp_path / "s", ["good", "bad"])
    module = dual(base, stage1, prompts=DualPrompts("same", "positive", TEXTS))
    collected = module.collect(BATCH)
    target = module.objective.target(*collected)
    good = collected.base
    bad = good - collected.difference
    torch.testing.assert_close(target, 6 * good - 5 * bad, rtol=1e-5, atol=1e-5)
    with_pass = dual(base, stage1, prompts=DualPrompts("same", "positive", TEXTS), target_init="sft")
    assert not torch.equal(with_pass.collect(BATCH).base, good)


def test_layers_and_prompt_token_change_what_is_counted(base: Path, tmp_path: Path) -> None:
    stage1 = adapters(base, tmp_path / "s", ["good", "bad"])
    narrow = dual(base, stage1).alignment(BATCH)
    wide = dual(base, stage1, reading={"include_last_prompt_token": True}).alignment(BATCH)
    assert narrow.weights.sum() == sum(BATCH.response_lengths)
    assert wide.weights.sum() == sum(BATCH.response_lengths) + BATCH.num_candidates
    assert torch.equal(narrow.prompt_weights, wide.prompt_weights)


def test_states_that_are_the_same_warn(base: Path, tmp_path: Path) -> None:
    """As in layers of convolutions, whose tokens do not look back to the instruction."""
    module = dual(base, adapters(base, tmp_path / "s", ["good", "bad"], size=0.0))
    with pytest.warns(UserWarning, match=r"layer 1: good and bad states are the same.*reading.target_layers to higher"):
        assert loss_of(module, BATCH) == 0


def test_low_precision_and_far_targets_warn(base: Path, tmp_path: Path) -> None:
    stage1 = adapters(base, tmp_path / "s", ["good", "bad"], size=1e-3)
    low = dual(base, stage1, backbone=Backbone(str(base), dtype="bfloat16"))
    with pytest.warns(UserWarning, match=r"layer 1: \|v\|/\|h\| is 0.0\d\d, so rounding|rounding is about"):
        loss_of(low, BATCH)
    far = dual(base, adapters(base, tmp_path / "far", ["good", "bad"], size=1.0))
    with pytest.warns(UserWarning, match=r"layer 1: alpha \|v\|/\|h\| is .* lower objective.alpha or set"):
        loss_of(far, BATCH)


def test_divergence_is_logged_when_asked(base: Path, tmp_path: Path) -> None:
    """0 at the start, where policy and start are one; then KL(start | policy) of next tokens, from whole forwards."""
    stage1 = adapters(base, tmp_path / "s", ["good", "bad"])
    exact = Backbone(str(base), dtype="float64")  # in float32 a divergence of 3e-4 has three digits
    module = dual(base, stage1, reading={"log_kl_every_n_steps": 1}, backbone=exact)
    loss_of(module, BATCH)
    assert module._means["train"].read(lambda s: s)["kl"].item() == pytest.approx(0, abs=1e-6)
    spread(module)
    loss_of(module, BATCH)
    logged = module._means["train"].read(lambda s: s)["kl"].item()
    prompts = [BATCH.prompt_ids.split(list(BATCH.prompt_lengths))[p] for p in BATCH.prompt_of]
    responses = BATCH.response_ids.split(list(BATCH.response_lengths))
    expected = []
    for prompt, response in zip(prompts, responses, strict=True):
        ids = torch.cat([prompt, response])[None]
        policy = module.model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        with adapters_active(module.model, ["good"]):
            start = module.model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        expected += (start.exp() * (start - policy)).sum(-1).tolist()
    assert logged == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    assert logged > 1e-4
    quiet = dual(base, stage1)
    loss_of(quiet, BATCH)
    assert "kl" not in quiet._means["train"].read(lambda s: s)


def test_the_order_of_examples_does_not_matter(base: Path, tmp_path: Path) -> None:
    module = dual(base, adapters(base, tmp_path / "s", ["good", "bad"]))
    spread(module)
    groups = instructed_groups()
    losses = [loss_of(module, CandidateBatch.of(order)).item() for order in (groups, groups[::-1])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
