"""The engine of a model: ours where it draws what plain forward passes would, transformers' own otherwise."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from align.checks.trust import CHECKED, OWN_ENGINE, trust
from align.errors import ModelError
from align.models.packed_attention import use_packed_attention
from align.sampling import checked, local, prompt_cache
from align.sampling.checked import LocalEngine
from align.sampling.generation import Generation
from align.sampling.sampler import sample
from align.scoring.decoder import unwrapped
from tests.tiny import FAMILIES, tiny_model, tiny_tokenizer

PROMPTS = [[5, 9, 13, 20, 31, 7, 44], [8, 17], [6, 6, 50, 12]]
GREEDY = Generation(max_new_tokens=8, temperature=0.0)


def model_of(family: str, dtype: torch.dtype = torch.float32) -> Any:
    model = tiny_model(family, dtype)
    use_packed_attention(model)
    return model


def drawn(model: Any) -> list[list[int]]:
    return [s.ids for s in sample(model, tiny_tokenizer(), PROMPTS, GREEDY, eos_ids=[1])]


def plain(model: Any) -> list[list[int]]:
    """Greedy decoding by whole forward passes."""
    found = []
    for prompt in PROMPTS:
        ids = list(prompt)
        while len(ids) < len(prompt) + 8 and (len(ids) == len(prompt) or ids[-1] != 1):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        found.append(ids[len(prompt) :])
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_our_engine_passes_for_every_family(family: str, dtype: torch.dtype) -> None:
    model = model_of(family, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        LocalEngine(model, tiny_tokenizer(), [1]).check(PROMPTS)
    assert getattr(model, CHECKED) == OWN_ENGINE


def test_an_engine_that_draws_no_numbers_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    right = prompt_cache.SharedPrompts.attend
    monkeypatch.setattr(prompt_cache.SharedPrompts, "attend", lambda *given: right(*given) * torch.nan)
    model = model_of("llama")
    with pytest.warns(UserWarning, match="generate of transformers draws.*logits are no numbers"):
        assert drawn(model) == plain(model)


def late_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that tells the model every token stands one place further on."""
    for kind in (prompt_cache.SharedPrompts, prompt_cache.RepeatedPrompts):
        right = kind.step

        def step(self: Any, tokens: Any, positions: Any, right: Any = right) -> Any:
            return right(self, tokens, positions + 1)

        monkeypatch.setattr(kind, "step", step)


def other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that gives every row the prompt of its neighbour."""
    right = prompt_cache.SharedPrompts.attend

    def attend(self: Any, layer: int, query: Any, key: Any, value: Any, scale: Any) -> Any:
        turned = right(self, layer, query.roll(1, 0), key.roll(1, 0), value.roll(1, 0), scale)
        return turned.roll(-1, 0)

    monkeypatch.setattr(prompt_cache.SharedPrompts, "attend", attend)


@pytest.mark.parametrize("sabotage", [late_positions, other_rows])
def test_a_wrong_cache_is_replaced_and_told(sabotage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sabotage(monkeypatch)
    model = model_of("llama")
    with pytest.warns(
        UserWarning, match=r"self-check: generate of transformers draws.*align's own engine: takes a token"
    ):
        found = drawn(model)
    assert found == plain(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert drawn(model) == found  # told once


def test_wrong_logits_with_the_right_order_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy tokens are the same, samples would be drawn at another temperature."""
    right = local.last_logits
    monkeypatch.setattr(local, "last_logits", lambda *given: right(*given) / 1.1)
    model = model_of("llama")
    with pytest.warns(UserWarning, match=r"generate of transformers draws.*draws from log-probabilities that are off"):
        assert drawn(model) == plain(model)


def test_an_engine_that_crashes_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any) -> Any:
        raise AttributeError("no layers")

    monkeypatch.setattr(prompt_cache.SharedPrompts, "step", crash)
    model = model_of("llama")
    with pytest.warns(UserWarning, match=r"does not run \(AttributeError: no layers\)"):
        assert drawn(model) == plain(model)


def test_a_model_that_no_engine_draws_from_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "_largest", lambda *_: 3.0)
    with pytest.raises(ModelError, match=r"model type llama: no engine draws .*3 nats below") as error:
        drawn(model_of("llama"))
    assert all(name in str(error.value) for name in checked.ENGINES)


def test_a_trusted_model_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "_largest", lambda *_: 3.0)
    model = model_of("llama")
    trust(model)
    assert drawn(model) == plain(model)
    assert getattr(unwrapped(model), CHECKED) == OWN_ENGINE
