"""The engine in this process: greedy equals `generate`, a sample is a function of weights and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.models.packed_attention import use_packed_attention
from align.models.tokenizer import load_tokenizer
from align.sampling.generation import Generation, Request, Sample
from align.sampling.local import TransformersEngine
from align.sampling.prompt_cache import RepeatedPrompts, SharedPrompts, prefill
from align.sampling.sampler import Sampler, sample
from tests.tiny import FAMILIES, tiny_model, tiny_tokenizer

PROMPTS = [[0, 40, 41, 42, 43], [0, 50], [0, 60, 61, 62, 63, 10, 20, 30], [0, 33, 34]]
GREEDY = Generation(max_new_tokens=12, temperature=0)
DRAWN = Generation(max_new_tokens=12, num_samples=3, seed=5)


def drawn(model: Any, prompts: Any = PROMPTS, settings: Generation = DRAWN, **options: Any) -> list[Sample]:
    return sample(model, tiny_tokenizer(), prompts, settings, eos_ids=[1], **options)


def by_generate(model: Any, prompt: list[int], length: int) -> list[int]:
    ids = model.generate(torch.tensor([prompt]), max_new_tokens=length, do_sample=False, eos_token_id=1, pad_token_id=2)
    return ids[0, len(prompt) :].tolist()


def shares(model: Any) -> bool:
    return isinstance(prefill(model, [[5]], torch.zeros(1, dtype=torch.long))[1], SharedPrompts)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_generate(family: str, ours: bool) -> None:
    model = tiny_model(family, dtype=torch.float64)
    expected = [by_generate(model, prompt, 12) for prompt in PROMPTS]
    if ours:
        use_packed_attention(model)
    assert [s.ids for s in drawn(model, settings=GREEDY)] == expected
    if not ours:
        assert not shares(model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("window", [None, 4])
def test_rows_padded_under_eager_attention(window: int | None, dtype: torch.dtype) -> None:
    """Prompts computed together, with padding before the shorter ones, leave the logits of each computed alone."""
    model = tiny_model("gemma2", dtype=dtype, **({} if window is None else {"sliding_window": window}))
    assert model.config._attn_implementation == "eager"
    with torch.no_grad():
        together, _ = prefill(model, PROMPTS, torch.arange(len(PROMPTS)))
        alone = torch.cat([model(torch.tensor([prompt])).logits[:, -1] for prompt in PROMPTS])
    rounding = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)  # its softmax is taken in float32
    assert (together - alone).abs().max() <= 64 * rounding * alone.abs().max()


def test_who_shares() -> None:
    """Rotary and learnt positions share prompts; an attention window or another attention does not."""
    for family, expected in {"llama": True, "qwen2": True, "gpt2": True, "gemma2": False}.items():
        model = tiny_model(family)
        use_packed_attention(model)
        assert shares(model) == expected, family


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_sample_depends_on_its_key_alone(family: str) -> None:
    """Neither other prompts, nor their order, the batches, nor how prompts are held change a sample."""
    model = tiny_model(family, dtype=torch.float64)
    plain = drawn(model)
    use_packed_attention(model)
    together = drawn(model)
    assert together == plain
    assert len({tuple(s.ids) for s in together}) > 8
    for settings in (
        Generation(**{**vars(DRAWN), "batch_tokens": 1}),
        Generation(**{**vars(DRAWN), "batch_tokens": 60}),
    ):
        assert drawn(model, settings=settings) == together
    alone = [s._replace(prompt=i) for i, p in enumerate(PROMPTS) for s in drawn(model, [p])]
    assert alone == together
    backwards = drawn(model, PROMPTS[::-1])
    assert sorted((3 - s.prompt, s.number, s.ids) for s in backwards) == [(s.prompt, s.number, s.ids) for s in together]
    fewer = drawn(model, settings=Generation(**{**vars(DRAWN), "num_samples": 1}))
    assert fewer == [s for s in together if s.number == 0]


def test_seeds_and_rounds_draw_anew_and_leave_the_global_stream() -> None:
    model = tiny_model()
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = drawn(model)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert drawn(model) == first
    assert drawn(model, settings=Generation(**{**vars(DRAWN), "seed": 6})) != first
    engine = TransformersEngine(model, tiny_tokenizer(), [1])
    assert Sampler(engine, DRAWN, round_number=1).sample([Request.of_ids(p) for p in PROMPTS]) != first


def test_first_tokens_have_the_model_s_frequencies() -> None:
    model = tiny_model()
    use_packed_attention(model)
    count = 4000
    found = drawn(model, PROMPTS[:1], Generation(max_new_tokens=1, num_samples=count, batch_tokens=8000))
    expected = model(torch.tensor(PROMPTS[:1])).logits[0, -1].softmax(-1).double()
    seen = torch.bincount(torch.tensor([s.ids[0] for s in found]), minlength=64) / count
    errors = (seen - expected) / (expected * (1 - expected) / count).sqrt()
    assert errors[expected > 1e-3].abs().max() < 4


def test_adapters_are_sampled_without_merging(model_folder: Path) -> None:
    backbone = Backbone(str(model_folder), dtype="float64")
    policy: Any = load_policy(backbone, load_tokenizer(backbone))
    base = [s.ids for s in drawn(policy, settings=GREEDY)]
    adapted = get_peft_model(policy, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2))
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    before = {name: p.clone() for name, p in adapted.named_parameters()}
    found = [s.ids for s in drawn(adapted, settings=GREEDY)]
    assert adapted.training
    assert all(torch.equal(p, before[name]) for name, p in adapted.named_parameters())
    assert found != base
    assert found == [by_generate(adapted.eval(), p, 12) for p in PROMPTS]


def test_the_context_is_a_limit(model_folder: Path) -> None:
    model = tiny_model(max_position_embeddings=10)
    found = drawn(model, [[5] * 7, [5] * 2], GREEDY)
    assert [(len(s.ids), s.finish) for s in found] == [(3, "length"), (8, "length")]
    with pytest.raises(ConfigError, match="fill the model's context of 10"):
        drawn(model, [[5] * 10])


def test_the_repeated_cache_is_the_fallback() -> None:
    assert isinstance(prefill(tiny_model(), [[5]], torch.zeros(1, dtype=torch.long))[1], RepeatedPrompts)
