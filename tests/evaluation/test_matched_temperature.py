"""Entropies of samples, and the temperature that gives one, against plain transformers and closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from align.evaluation.matched_temperature import MatchedTemperature, UnreachedTarget, sampled_entropy
from align.sampling.generation import Generation, Sample
from align.sampling.sampler import sample
from tests.tiny import tiny_model, tiny_tokenizer

PROMPTS = [[0, 9, 10], [0, 11, 12, 13, 14]]


def samples_of(model: Any, temperature: float, num_samples: int = 3, tokens: int = 6) -> list[Sample]:
    settings = Generation(max_new_tokens=tokens, num_samples=num_samples, temperature=temperature)
    return sample(model, tiny_tokenizer(), PROMPTS, settings, eos_ids=[1])


def constant_model() -> tuple[Any, torch.Tensor]:
    """A Llama whose next token does not depend on what came before, and its logits."""
    model = tiny_model(tie_word_embeddings=False, vocab_size=300)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight[:1].expand(300, -1))
        model.lm_head.weight.mul_(0.3)
        return model, model(input_ids=torch.tensor([[5]])).logits[0, 0].double()


def entropy(logits: torch.Tensor, temperature: float) -> float:
    logprobs = (logits / temperature).log_softmax(-1)
    return float(-(logprobs.exp() * logprobs).sum())


def test_entropies_and_ratios_are_those_of_plain_transformers() -> None:
    model = tiny_model(vocab_size=300)
    drawn = samples_of(model, 0.6)
    found = sampled_entropy(model, PROMPTS, drawn, 0.6)
    for place, one in enumerate(drawn):
        prompt = PROMPTS[one.prompt]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + one.ids])).logits[0, len(prompt) - 1 : -1].double()
        cooled, plain = ((logits / t).log_softmax(-1) for t in (0.6, 1.0))
        ids = torch.tensor(one.ids)[:, None]
        assert found.entropies[place] == pytest.approx(float(-(cooled.exp() * cooled).sum()), rel=1e-4)
        assert found.log_ratios[place] == pytest.approx(float((cooled - plain).gather(1, ids).sum()), abs=1e-3)
        assert found.tokens[place] == len(one.ids)
    assert found.per_token == pytest.approx(sum(found.entropies) / sum(len(s.ids) for s in drawn))


def test_the_temperature_of_an_entropy_is_found_where_it_has_a_closed_form() -> None:
    model, logits = constant_model()

    def measure(temperature: float) -> float:
        return sampled_entropy(model, PROMPTS, samples_of(model, temperature), temperature).per_token

    search = MatchedTemperature(measure, tolerance=1e-3)
    for wanted in (0.37, 1.0, 1.4):
        temperature = search.find(entropy(logits, wanted))
        assert entropy(logits, temperature) == pytest.approx(entropy(logits, wanted), abs=2e-3)
        assert temperature == pytest.approx(wanted, abs=0.01)
        assert search.measured[temperature] == pytest.approx(entropy(logits, temperature), abs=1e-4)


def test_a_value_known_already_costs_no_draw() -> None:
    asked: list[float] = []

    def measure(temperature: float) -> float:
        asked.append(temperature)
        return math.log(temperature)

    search = MatchedTemperature(measure, tolerance=1e-6, resolution=1e-9)
    first = search.find(math.log(0.5))
    assert first == pytest.approx(0.5, abs=1e-6)
    before = len(asked)
    assert search.find(math.log(0.5)) == first
    assert len(asked) == before == len(set(asked))


def test_a_falling_measure_is_searched_too() -> None:
    search = MatchedTemperature(lambda t: (1 - t) ** 2, tolerance=1e-6, highest=1.0, resolution=1e-9)
    assert search.find(0.09) == pytest.approx(0.7, abs=1e-4)


def test_what_cannot_be_matched_is_told() -> None:
    search = MatchedTemperature(lambda t: t, tolerance=1e-3)
    with pytest.raises(UnreachedTarget, match=r"from 0\.05 to 2, which temperatures 0\.05 to 2 give, got 2\.5"):
        search.find(2.5)
    assert search.find(2.0005) == 2.0
    with pytest.raises(ValueError, match="is nan at temperature"):
        MatchedTemperature(lambda _: math.nan, tolerance=1e-3).find(0.1)
    with pytest.raises(ValueError, match="lowest < highest"):
        MatchedTemperature(lambda t: t, tolerance=1e-3, lowest=2.0, highest=1.0)
    with pytest.raises(ValueError, match="must be positive"):
        sampled_entropy(tiny_model(), PROMPTS, [], 0.0)
