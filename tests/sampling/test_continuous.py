"""Continuous batching of transformers, the real one: what it draws is what our engine draws, and its numbers are ours."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch

from align.errors import ConfigError, ModelError
from align.models.backbone import Backbone
from align.sampling.checked import LocalEngine
from align.sampling.continuous import ContinuousEngine
from align.sampling.continuous_batching import ContinuousBatching, MeasuredContinuous
from align.sampling.engine_difference import EngineDifference
from align.sampling.generation import Generation, Request, Sample
from align.sampling.local import TransformersEngine
from align.sampling.sampler import Sampler
from tests.tiny import tiny_model, tiny_tokenizer

PROMPTS = [[0, 40, 41, 42, 43], [0, 50], [7], [0, 60, 61, 62, 63, 10, 20, 30], [0, 33, 34, 5, 6]]
DRAWN = Generation(max_new_tokens=12, num_samples=3, seed=5, top_p=0.9)
COOL = Generation(max_new_tokens=30, num_samples=4, seed=6, temperature=0.7, batch_tokens=64)
"""Twenty samples of up to 38 positions in a cache of 64."""
GREEDY = Generation(max_new_tokens=8, temperature=0)


def drawn(engine: Any, settings: Generation, together: int | None = None) -> list[Sample]:
    engine.together = together
    return Sampler(engine, settings).sample([Request.of_ids(p) for p in PROMPTS])


def measured(model: Any, settings: Generation, most: float = 0.2) -> MeasuredContinuous:
    difference = EngineDifference(model, settings, most, backbone=Backbone("here"))
    return MeasuredContinuous(model, tiny_tokenizer(), [1], difference=difference)


def adapted() -> Any:
    model: Any = peft.get_peft_model(
        tiny_model(dtype=torch.float64), peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], lora_dropout=0.9)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    return model.train()


@pytest.mark.parametrize("settings", [GREEDY, DRAWN, COOL])
def test_it_draws_what_our_engine_draws(settings: Generation) -> None:
    """Also from a cache that is too small for all, with a stop string that it knows nothing of, and with adapters."""
    model = adapted()
    ends: Any = (model, tiny_tokenizer(), [1], ["(", "+"])
    random = torch.get_rng_state()
    found = drawn(ContinuousEngine(*ends), settings, together=20)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    ours = drawn(TransformersEngine(*ends), settings)
    assert [s._replace(logprobs=None) for s in found] == ours
    if settings is not GREEDY:
        assert {s.finish for s in found} == {"eos", "stop", "length"}
    model.eval()
    told_at = settings.temperature if settings is COOL else 1.0
    for sample in found:
        prompt = PROMPTS[sample.prompt]
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *sample.ids]])).logits[0, len(prompt) - 1 : -1] / told_at
        expected = logits.log_softmax(-1).gather(1, torch.tensor(sample.ids)[:, None])[:, 0]
        assert sample.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("settings", [DRAWN, COOL])
def test_its_difference_to_our_scorer_is_measured(settings: Generation) -> None:
    engine = measured(tiny_model(dtype=torch.float64), settings)
    drawn(engine, settings, together=20)
    found = engine.measured()
    assert found["engine_difference"] <= found["engine_difference_max"] < 1e-5


def test_autocast_makes_keys_and_values_of_two_dtypes() -> None:
    """The bound is what bfloat16 rounds: 8 bits of logits of about 4 nats."""
    with torch.autocast("cpu", torch.bfloat16):
        engine = measured(tiny_model(), COOL)
        drawn(engine, COOL, together=20)
    assert engine.measured()["engine_difference"] < 4 / 2**8


def test_another_s_probabilities_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """First by plain forward passes; where those see nothing, by our scorer."""
    model = tiny_model(dtype=torch.float64)
    original = model.forward
    paged = lambda options: "cache" in options  # noqa: E731
    monkeypatch.setattr(
        model,
        "forward",
        lambda *args, **options: _warmer(original(*args, **options), 0.5 if paged(options) else 1.0),
    )
    with pytest.raises(ModelError, match=r"no engine draws .* \(continuous batching of transformers: draws from log-p"):
        drawn(measured(model, DRAWN), DRAWN)
    monkeypatch.setattr(LocalEngine, "check", lambda self, prompts: "continuous batching of transformers")
    with pytest.raises(ModelError, match=r"continuous batching draws with log-probabilities that are .* from ours"):
        drawn(measured(model, DRAWN, 0.01), DRAWN)


def _warmer(output: Any, factor: float) -> Any:
    output.logits = output.logits * factor
    return output


def test_what_it_cannot_read_is_refused() -> None:
    model = tiny_model()
    model.set_attn_implementation("flex_attention")
    with pytest.raises(ConfigError, match="attn_implementation is flex_attention, expected one of sdpa"):
        ContinuousEngine(model, tiny_tokenizer(), [1])
    with pytest.raises(ConfigError, match="leaves out the cap on attention of model type gemma2"):
        ContinuousEngine(tiny_model("gemma2"), tiny_tokenizer(), [1])
    for wrong in ({"together": 0}, {"most_difference": 0.0}, {"importance_cap": -1.0}):
        with pytest.raises(ConfigError, match="must be"):
            ContinuousBatching(**wrong)  # type: ignore[arg-type]
