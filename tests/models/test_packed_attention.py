"""Which models attend through our function."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from align.errors import ModelError
from align.models.packed_attention import use_packed_attention
from align.records import CandidateBatch, EncodedGroup
from align.scoring import score_responses
from align.scoring.decoder import decoder, exact_layouts
from align.scoring.packed_names import PACKED_ATTENTION
from tests.architectures.shrunk import Variant, random_model
from tests.formulas.logprobs import plain_logprobs
from tests.tiny import random_batch, tiny_model

BATCH = random_batch([2, 3])


@pytest.mark.parametrize("named", ["sdpa", "flash_attention_2", "flash_attention_3"])
def test_flash_attention_keeps_sharing_prompts(named: str) -> None:
    model = tiny_model("llama", torch.float64)
    wanted = score_responses(model, BATCH, layout="padded").logprobs
    decoder(model).config._attn_implementation = named
    use_packed_attention(model)
    assert model.config._attn_implementation == PACKED_ATTENTION
    assert exact_layouts(model, BATCH) == ["padded", "shared", "packed"]
    torch.testing.assert_close(score_responses(model, BATCH).logprobs, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("named", ["eager", "flash_attention_2"])
def test_eager_that_is_asked_for_and_flash_under_windows_stay_as_they_are(named: str) -> None:
    model = tiny_model("mistral", sliding_window=4)
    decoder(model).config._attn_implementation = named
    use_packed_attention(model, named)
    assert model.config._attn_implementation == named
    assert exact_layouts(model, BATCH) == ["padded"]


def long_rows() -> CandidateBatch:
    """Candidates of up to 50 tokens, far beyond the windows of these tests."""
    return random_batch([2, 3, 1], longest=40)


def short_rows() -> CandidateBatch:
    group = EncodedGroup("g", [5], [[6], [7, 8]], [0, 1], [[], []], 1.0, [False] * 2)
    return CandidateBatch.of([group])


@pytest.mark.parametrize(
    ("family", "named"),
    [
        *(("gemma2", "auto"), ("gpt_oss", "auto"), ("mistral", "auto"), ("phi3", "auto")),
        ("gemma2", "flex_attention"),
        *(pytest.param(family, "flex_attention", marks=pytest.mark.slow) for family in ("gpt_oss", "mistral", "phi3")),
    ],
)
def test_windows_soft_caps_and_sinks_share_prompts(family: str, named: str) -> None:
    """As plain forward passes of transformers, values and gradients; these compute parts in float32."""
    model = tiny_gpt_oss() if family == "gpt_oss" else tiny_model(family, torch.float64, sliding_window=6)
    batch = long_rows()
    expected, gradient = loss_and_gradient(model, plain_logprobs(model, batch))
    if named != "auto":
        model.set_attn_implementation(named)
    use_packed_attention(model, named)
    assert exact_layouts(model, batch) == ["padded", "packed"]
    found, own = loss_and_gradient(model, score_responses(model, batch).logprobs)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert float((own - gradient).norm() / gradient.norm()) < 1e-5
    padded, _ = loss_and_gradient(model, score_responses(model, batch, layout="padded").logprobs)
    torch.testing.assert_close(padded, expected, rtol=1e-6, atol=0)


def tiny_gpt_oss() -> Any:
    return random_model(Variant("gpt_oss", 6)).eval()  # its experts have no float64


def loss_and_gradient(model: Any, logprobs: Tensor) -> tuple[Tensor, Tensor]:
    model.zero_grad()
    (logprobs * torch.arange(1, len(logprobs) + 1)).sum().backward()
    return logprobs.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_a_layer_that_does_not_tell_its_window_pads_long_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("mistral", sliding_window=6)
    use_packed_attention(model)
    short, long = short_rows(), long_rows()
    own = ALL_ATTENTION_FUNCTIONS[PACKED_ATTENTION]

    def silent(*given: Any, sliding_window: int, **options: Any) -> Any:
        return own(*given, **options)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, PACKED_ATTENTION, silent)
    with pytest.raises(ModelError, match=r"mistral does not hand its attention windows on.*backbone.layout to padded"):
        score_responses(model, long)
    assert exact_layouts(model, long) == ["padded"]
    assert "packed" in exact_layouts(model, short)


@pytest.mark.parametrize("kind", ["deepseek_v32", "minimax_m3_vl_text"])
def test_sparse_attention_stays_sparse(kind: str) -> None:
    """Layers that choose the tokens they see put the choice into their mask under `sdpa` alone."""
    layers = {"layer_types": ["minimax_m3_sparse"] * 4, "index_topk_blocks": 1, "index_block_size": 4}
    changes: dict[str, dict[str, Any]] = {"deepseek_v32": {"index_topk": 4}, "minimax_m3_vl_text": layers}
    model, ids = random_model(Variant(kind), **changes[kind]), torch.arange(3, 23)[None]
    wanted = model(input_ids=ids, use_cache=False).logits
    use_packed_attention(model)
    torch.testing.assert_close(model(input_ids=ids, use_cache=False).logits, wanted)
    model.config._attn_implementation = PACKED_ATTENTION  # what is to be kept from it
    assert not torch.allclose(model(input_ids=ids, use_cache=False).logits, wanted, atol=1e-3)
