"""The vocabulary head beside a reward head gives the log-probabilities of the language model it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from align.checks.plain import plain_logprobs
from align.models.backbone import Backbone, LoRA
from align.models.language_head import attach_language_head, without_language_head
from align.models.loading import load_reward_model
from align.models.tokenizer import load_tokenizer
from align.scoring import score_tokens
from align.scoring.decoder import LANGUAGE_HEAD, unwrapped
from align.scoring.responses import last_hidden_and_scores
from tests.tiny import random_batch, tiny_model, tiny_tokenizer

BATCH = random_batch([2, 3])


def saved(folder: Path, family: str, **changes: Any) -> Path:
    tokenizer = tiny_tokenizer()
    tiny_model(family, vocab_size=len(tokenizer), **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def with_head(folder: Path, lora: LoRA | None = None) -> Any:
    backbone = Backbone(str(folder), lora=lora)
    model = load_reward_model(backbone, load_tokenizer(backbone), ["reward"], "<pad>")
    attach_language_head(model, backbone)
    return model


def expected(folder: Path) -> torch.Tensor:
    """By transformers' own language model, each candidate alone."""
    with torch.no_grad():
        return plain_logprobs(AutoModelForCausalLM.from_pretrained(folder).eval(), BATCH)


@pytest.mark.parametrize("lora", [None, LoRA(r=2)])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "pythia"])
def test_log_probabilities_are_the_language_models(family: str, tied: bool, lora: LoRA | None, tmp_path: Path) -> None:
    """Gemma 2 caps its logits at 2, which costs nats here."""
    folder = saved(tmp_path / "lm", family, tie_word_embeddings=tied)
    model = with_head(folder, lora)
    with torch.no_grad():
        torch.testing.assert_close(score_tokens(model, BATCH).logprobs, expected(folder), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_a_factor_under_no_known_name(tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = LlamaForCausalLM.forward

    def forward(self: Any, *args: Any, **options: Any) -> Any:
        found = right(self, *args, **options)
        found.logits = found.logits * 0.25
        return found

    folder = saved(tmp_path / "lm", "llama", tie_word_embeddings=tied)
    plain = expected(folder)
    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    scaled = expected(folder)
    assert (scaled - plain).abs().max() > 0.5
    model = with_head(folder)
    scores = last_hidden_and_scores(model, BATCH).scores
    torch.testing.assert_close(scores.logprobs, sums(scaled), rtol=1e-4, atol=1e-4)
    scores.logprobs.sum().backward()
    trained = model.get_input_embeddings().weight if tied else getattr(model, LANGUAGE_HEAD).weight
    assert trained.grad.abs().sum() > 0
    assert not any(p.is_meta for p in model.parameters())
    names = {name for name, _ in model.named_parameters() if LANGUAGE_HEAD in name}
    assert len(names) == (0 if tied else 1)
    with without_language_head(model):
        assert not any(LANGUAGE_HEAD in name for name in model.state_dict())


def sums(logprobs: torch.Tensor) -> torch.Tensor:
    return torch.segment_reduce(logprobs, "sum", lengths=torch.tensor(BATCH.response_lengths))


def test_beside_adapters_it_is_frozen(tmp_path: Path) -> None:
    model = with_head(saved(tmp_path / "lm", "gemma2", tie_word_embeddings=False), LoRA(r=2))
    own = getattr(unwrapped(model), LANGUAGE_HEAD)
    assert [p.requires_grad for p in own.parameters()] == [False]
