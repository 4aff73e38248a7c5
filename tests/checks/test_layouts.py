"""Right models pass in every layout and precision; each sabotage is seen, and the next layout takes over."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from align.checks import layout_check
from align.checks.differences import Difference, compare, compute
from align.checks.layout_check import LOGPROBS, REWARDS, LayoutCheck, LayoutVerdict, refuse_layouts
from align.checks.tolerance import TOLERANCES, compute_dtype
from align.errors import ModelError
from align.models.deterministic import switch_off_rates
from align.models.packed_attention import use_packed_attention
from align.scoring.decoder import choose_layout, exact_layouts
from align.scoring.head import Head
from align.scoring.packed_row import PackedRow
from tests.tiny import FAMILIES, random_batch, tiny_config, tiny_model

BATCH = random_batch([3, 2, 1], longest=20)


def model_of(family: str = "llama", dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A model as a run trains it: in train mode, without dropout, with our attention."""
    changes |= dict.fromkeys(switch_off_rates(tiny_config(family)), 0.0)
    model = tiny_model(family, dtype, **changes).train()
    use_packed_attention(model)
    return model


def check(model: nn.Module, layout: str = "auto", scoring: layout_check.Scoring = LOGPROBS) -> LayoutVerdict:
    return LayoutCheck(model, scoring, gradients=True, everywhere=False)(BATCH, layout)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_right_model_passes(family: str, dtype: torch.dtype) -> None:
    model = model_of(family, dtype)
    for layout in exact_layouts(model, BATCH):
        verdict = check(model, layout)
        assert verdict.layout == layout
        assert verdict.difference.within(verdict.tolerance.bound(Difference(1, 1)))
        assert not verdict.refused
    assert check(model).layout == choose_layout(model, BATCH)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_is_measured_as_what_it_computes_in(family: str, dtype: torch.dtype) -> None:
    model = model_of(family)
    with torch.autocast("cpu", dtype):
        assert compute_dtype(model) == dtype
        assert check(model).tolerance == TOLERANCES[dtype]


def test_adapters_and_gradient_checkpointing(tmp_path: Any) -> None:
    import peft

    model = model_of()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")).train()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    found = check(adapted)
    assert found.layout == "packed"
    assert 0 < found.difference.gradients < 1e-4


def test_reward_models_are_compared_with_the_classifier_of_transformers() -> None:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(tiny_config("llama", num_labels=2)).train()
    use_packed_attention(model)
    assert check(model, scoring=REWARDS).difference.within(Difference(1e-5, 1e-5))
    wrong = REWARDS._replace(ours=lambda *args: REWARDS.ours(*args) * 1.01)
    with pytest.raises(ModelError, match="rewards agree with a plain forward pass in no layout"):
        check(model, scoring=wrong)


def leaking(*_: Any, **__: Any) -> Any:
    """Attention over packed rows that lets every token see all before it, in other candidates too."""

    def attend(row: Any, query: Any, key: Any, value: Any, *, scale: Any, **_: Any) -> Any:
        row.asked += 1
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        found = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
        return found.transpose(1, 2)

    return attend


def test_attention_that_ignores_its_mask_is_replaced_by_the_next_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackedRow, "attend", leaking())
    model = model_of()
    found = check(model)
    assert (found.layout, list(found.refused)) == ("shared", ["packed"])
    with pytest.raises(ModelError, match=r"model type llama: .*packed: values off by .*set backbone.layout to auto"):
        check(model_of(), "packed")


def test_a_layout_that_crashes_is_replaced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(PackedRow, "attend", crash)
    found = check(model_of())
    assert found.layout == "shared"
    assert found.refused == {"packed": "does not run: RuntimeError: no such kernel"}


def skip_scale(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Let our head leave out a factor on the logits."""
    right = Head.logits
    monkeypatch.setattr(Head, "logits", lambda self, hidden: right(self, hidden) / factor)


@pytest.mark.parametrize("factor", [0.25, 1.01])
def test_a_head_that_skips_a_scale_is_refused(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_scale(monkeypatch, factor)
    with pytest.raises(ModelError, match=r"model type llama: log-probabilities agree .* in no layout .*packed.*padded"):
        check(model_of())


def test_a_wrong_gradient_behind_right_values_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One per cent too much gradient, in packed rows only."""

    def sabotaged(*args: Any, **options: Any) -> Any:
        right = attend(*args, **options)
        return right + 0.01 * (right - right.detach())

    attend = PackedRow.attend
    monkeypatch.setattr(PackedRow, "attend", sabotaged)
    found = check(model_of())
    assert found.layout == "shared"
    assert re.fullmatch(r"values off by \d\.\de-0\d, gradients by \d\.\de-02", found.refused["packed"])


def test_refused_layouts_are_chosen_no_more() -> None:
    model = model_of()
    assert choose_layout(model, BATCH) == "packed"
    refuse_layouts([model], ["packed"])
    assert choose_layout(model, BATCH) == "shared"
    refuse_layouts([model], ["shared"])
    assert choose_layout(model, BATCH) == "padded"


@pytest.mark.parametrize(
    ("values", "expected"), [([1.0, 2.0], 0.0), ([1.01, 2.02], 0.01), ([float("nan"), 2.0], float("inf"))]
)
def test_differences_are_relative_and_nan_is_infinite(values: list[float], expected: float) -> None:
    model = nn.Linear(1, 1)
    ours, plain = (compute(model, lambda row=row: torch.tensor(row), gradients=False) for row in (values, [1.0, 2.0]))  # type: ignore[misc]
    assert compare(ours, plain, least=0.1, everywhere=False).values == pytest.approx(expected, abs=1e-7)


def test_the_models_own_rounding_widens_the_bound_up_to_a_limit() -> None:
    tolerance = TOLERANCES[torch.float32]
    assert tolerance.bound(Difference(0, 0)) == tolerance.right
    assert tolerance.bound(Difference(2e-4, 0)).values == pytest.approx(8e-4)
    assert tolerance.bound(Difference(1, 1)) == tolerance.wrong
