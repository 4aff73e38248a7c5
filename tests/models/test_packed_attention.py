"""Which models attend through our function."""

import pytest
import torch

from align.models.packed_attention import use_packed_attention
from align.scoring import score_responses
from align.scoring.decoder import PACKED_ATTENTION, decoder, exact_layouts
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
def test_windows_and_eager_attention_stay_as_they_are(named: str) -> None:
    model = tiny_model("mistral", sliding_window=4)
    decoder(model).config._attn_implementation = named
    use_packed_attention(model)
    assert model.config._attn_implementation == named
    assert exact_layouts(model, BATCH) == ["padded"]
