"""Whatever a model does after its decoder is done, under any name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from align.models.packed_attention import use_packed_attention
from align.scoring import score_responses
from align.scoring.decoder import head
from tests.formulas.logprobs import plain_logprobs
from tests.tiny import random_batch, tiny_model


def changed(kind: str, dtype: torch.dtype = torch.float64) -> Any:
    """A Llama whose forward does something of its own to its logits, which no setting names."""
    model = tiny_model("llama", dtype)
    plain = type(model)

    class Changed(plain):  # type: ignore[misc, valid-type]
        def forward(self, *args: Any, **options: Any) -> Any:
            output = super().forward(*args, **options)
            if kind == "factor":
                output.logits = output.logits * 0.3
            elif kind == "cap":
                output.logits = 3 * torch.tanh(output.logits / 3)
            elif kind == "bias":
                output.logits = output.logits + torch.linspace(-2, 2, output.logits.shape[-1]).to(output.logits)
            return output

    model.__class__ = Changed
    if kind == "before":
        model.lm_head.register_forward_pre_hook(lambda _, inputs: (torch.nn.functional.silu(inputs[0]) * 2,))
    return model


def compared(model: Any, layout: str, **options: Any) -> None:
    batch = random_batch([2, 3, 1])
    model.zero_grad()
    expected = plain_logprobs(model, batch)
    weights = torch.arange(1, batch.num_candidates + 1)
    (expected * weights).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    own = score_responses(model, batch, layout=layout, **options).logprobs
    (own * weights).sum().backward()
    torch.testing.assert_close(own, expected, rtol=1e-8, atol=0)
    whole = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert ((whole - gradient).norm() / gradient.norm()).item() < 1e-6


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("kind", ["factor", "cap", "bias", "before"])
def test_what_no_setting_names(kind: str, layout: str) -> None:
    model = changed(kind)
    use_packed_attention(model)
    compared(model, layout)
    compared(model, layout, logit_bytes=8 * 64 * 3)  # in tiles, computed again in the backward pass


def test_adapters_on_the_head() -> None:
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["lm_head", "q_proj"], init_lora_weights=False)
    compared(get_peft_model(changed("cap"), config, autocast_adapter_dtype=False), "padded")


def test_a_plain_head_is_the_projection_alone() -> None:
    model = tiny_model()
    assert head(model).projection is model.lm_head
    assert head(tiny_model("gemma2")).projection is not None
    assert not isinstance(head(changed("factor")).projection, torch.nn.Module)


def test_nothing_is_left_behind() -> None:
    model = changed("cap")
    head(model).logits(torch.randn(3, 32, dtype=torch.float64))
    assert "forward" not in vars(model.model)
    assert not model.lm_head._forward_hooks


def test_a_cap_is_taken_in_float32() -> None:
    model = changed("cap", torch.bfloat16)
    hidden = torch.randn(3, 32, dtype=torch.bfloat16)
    own = head(model).logits(hidden)
    assert own.dtype == torch.float32
    assert torch.equal(own, 3 * torch.tanh(model.lm_head(hidden).float() / 3))
