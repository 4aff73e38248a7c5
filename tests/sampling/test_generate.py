"""The model's own `generate` as an engine: greedy equals plain forwards, samples equal the other engine's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from align.errors import ConfigError
from align.sampling.generation import Generation, Request, Sample
from align.sampling.local import TransformersEngine
from align.sampling.sampler import Sampler
from align.sampling.transformers_generate import GenerateEngine
from tests.tiny import tiny_model, tiny_tokenizer

PROMPTS = [[0, 40, 41, 42, 43], [0, 50], [0, 60, 61, 62, 63, 10, 20, 30], [0, 33, 34, 5, 6]]
GREEDY = Generation(max_new_tokens=8, temperature=0)
DRAWN = Generation(max_new_tokens=12, num_samples=3, seed=5, top_p=0.9)


def drawn(engine: Any, settings: Generation, prompts: Any = PROMPTS) -> list[Sample]:
    return Sampler(engine, settings).sample([Request.of_ids(p) for p in prompts])


def recurrent_model() -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "mamba", hidden_size=32, state_size=4, num_hidden_layers=2, vocab_size=64, expand=2, time_step_rank=4
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float64)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def by_forwards(model: Any, prompt: list[int], length: int) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + length and (ids == prompt or ids[-1] != 1):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("build", [recurrent_model, tiny_model])
def test_greedy_equals_plain_forwards(build: Any, cached: bool) -> None:
    model = build().train()
    engine = GenerateEngine(model, tiny_tokenizer(), [1], cached=cached)
    found = [s.ids for s in drawn(engine, GREEDY)]
    assert model.training
    model.eval()
    assert found == [by_forwards(model, p, 8) for p in PROMPTS]


def test_samples_are_those_of_the_other_engine() -> None:
    model = tiny_model(dtype=torch.float64)
    ends: Any = (model, tiny_tokenizer(), [1], ["x"])
    found = drawn(GenerateEngine(*ends), DRAWN)
    assert found == drawn(TransformersEngine(*ends), DRAWN)
    assert len({len(s.ids) for s in found}) > 1, "some end before others"


def test_a_sample_depends_on_its_key_alone() -> None:
    engine = GenerateEngine(recurrent_model(), tiny_tokenizer(), [1])
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    together = drawn(engine, DRAWN)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [s._replace(prompt=i) for i, p in enumerate(PROMPTS) for s in drawn(engine, DRAWN, [p])] == together
    assert drawn(engine, Generation(**{**vars(DRAWN), "seed": 6})) != together


def test_the_model_s_own_generation_settings_are_set_aside() -> None:
    model = tiny_model()
    expected = drawn(GenerateEngine(model, tiny_tokenizer(), [1]), GREEDY)
    model.generation_config.update(repetition_penalty=3.0, suppress_tokens=list(range(5, 40)), eos_token_id=7)
    kept = model.generation_config
    assert drawn(GenerateEngine(model, tiny_tokenizer(), [1]), GREEDY) == expected
    assert model.generation_config is kept


def test_the_context_is_a_limit() -> None:
    engine = GenerateEngine(tiny_model(max_position_embeddings=10), tiny_tokenizer(), [1])
    found = drawn(engine, GREEDY, [[5] * 7, [5] * 2])
    assert [(len(s.ids), s.finish) for s in found] == [(3, "length"), (8, "length")]
    with pytest.raises(ConfigError, match="fill the model's context of 10"):
        drawn(engine, GREEDY, [[5] * 10])
