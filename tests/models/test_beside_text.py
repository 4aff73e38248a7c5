"""A model of pictures and text is trained on text: what text never passes has no adapters, and is not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.models.backbone import Backbone, LoRA
from align.models.loading import load_policy
from tests.architectures.shrunk import Variant, random_model
from tests.tiny import tiny_tokenizer

IDS = torch.tensor([[5, 40, 41, 42, 43, 7]])


@pytest.mark.parametrize("lora", [None, LoRA(r=2), LoRA(r=2, target_modules=["q_proj", "v_proj"])])
def test_all_that_is_trained_gets_a_gradient(lora: LoRA | None, tmp_path: Path) -> None:
    """Both towers of Gemma 3 have query projections."""
    tokenizer = tiny_tokenizer()
    base = random_model(Variant("gemma3"), vocab_size=len(tokenizer))
    base.save_pretrained(tmp_path)
    model: Any = load_policy(Backbone(str(tmp_path), lora=lora), tokenizer)
    model(input_ids=IDS, use_cache=False, token_type_ids=torch.zeros_like(IDS)).logits.square().sum().backward()
    trained = {name: p.grad is not None for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(trained.values())
    blocks = base.config.get_text_config().num_hidden_layers
    assert sum(name.endswith("q_proj.lora_A.default.weight") for name in trained) == (blocks if lora else 0)
    assert not any("vision" in name or "projector" in name for name in trained)


def test_a_folder_keeps_what_is_not_trained(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    base = random_model(Variant("gemma3"), vocab_size=len(tokenizer))
    base.save_pretrained(tmp_path)
    model: Any = load_policy(Backbone(str(tmp_path)), tokenizer)
    model.save_pretrained(tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert any("vision" in name for name in again)
    assert all(torch.equal(again[name], values) for name, values in base.state_dict().items())
