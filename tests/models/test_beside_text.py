"""A model of pictures and text is trained on text: what text never passes has no adapters, and is not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

from align.errors import ModelError
from align.models.backbone import Backbone, LoRA
from align.models.loading import load_policy
from align.models.model_export import export_model
from align.records import CandidateBatch, EncodedGroup
from align.scoring.responses import score_responses
from tests.architectures.shrunk import Variant, _changes, random_model
from tests.tiny import tiny_tokenizer

IDS = torch.tensor([[5, 40, 41, 42, 43, 7]])
KINDS = ["gemma3", "mistral3", "qwen3_vl"]
"""Of the first transformers has a causal class too, the others are of pictures and text alone."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lora", [None, LoRA(r=2), LoRA(r=2, target_modules=["q_proj", "v_proj"])])
def test_all_that_is_trained_gets_a_gradient(lora: LoRA | None, kind: str, tmp_path: Path) -> None:
    """Both towers of Gemma 3 have query projections."""
    tokenizer = tiny_tokenizer()
    base = random_model(Variant(kind), vocab_size=len(tokenizer))
    base.save_pretrained(tmp_path)
    model: Any = load_policy(Backbone(str(tmp_path), lora=lora), tokenizer)
    types = {"token_type_ids": torch.zeros_like(IDS)} if kind == "gemma3" else {}
    model(input_ids=IDS, use_cache=False, **types).logits.square().sum().backward()
    trained = {name: p.grad is not None for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(trained.values())
    blocks = base.config.get_text_config().num_hidden_layers
    assert sum(name.endswith("q_proj.lora_A.default.weight") for name in trained) == (blocks if lora else 0)
    assert not any("vis" in name or "projector" in name for name in trained)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_keeps_what_is_not_trained(kind: str, tmp_path: Path) -> None:
    """Also the settings of its processor, without which vLLM opens no model of pictures and text."""
    tokenizer = tiny_tokenizer()
    base = random_model(Variant(kind), vocab_size=len(tokenizer))
    base.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "preprocessor_config.json").write_text('{"image_mean": [0.5]}')
    model: Any = load_policy(Backbone(str(tmp_path / "base")), tokenizer)
    export_model(model, tokenizer, tmp_path / "out")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").state_dict()
    assert any("vis" in name for name in again)
    assert all(torch.equal(again[name], values) for name, values in base.state_dict().items())
    assert (tmp_path / "out" / "preprocessor_config.json").read_text() == '{"image_mean": [0.5]}'
    (tmp_path / "base" / "preprocessor_config.json").unlink()
    with pytest.warns(UserWarning, match=r"has no preprocessor_config\.json and no processor_config\.json"):
        export_model(model, tokenizer, tmp_path / "without")


@pytest.mark.parametrize("layout", ["padded", "shared", "packed"])
def test_a_model_of_pictures_and_text_alone_scores_text_in_every_layout(layout: str, tmp_path: Path) -> None:
    """Its positions are three, of time, height and width, which are one and the same for text."""
    whole = random_model(Variant("qwen3_vl"), vocab_size=len(tiny_tokenizer()))
    whole.config.text_config.rope_parameters |= {"mrope_section": [2, 1, 1], "mrope_interleaved": True}
    whole.save_pretrained(tmp_path)
    model = load_policy(Backbone(str(tmp_path), attn_implementation="auto"), tiny_tokenizer()).eval()
    prompt, answers = [5, 40, 41, 42], [[43, 7], [44, 45, 46]]
    batch = CandidateBatch.of([EncodedGroup("g", prompt, answers, [0, 1], [[], []], 1.0, [False, False])])
    with torch.no_grad():
        found = score_responses(model, batch, layout=layout).logprobs
        for answer, value in zip(answers, found, strict=True):
            ids = torch.tensor([prompt + answer])
            tokens = whole(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
            expected = tokens.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum()
            torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("kind", ["llama4", "qwen3_5"])
def test_a_language_model_is_read_out_of_a_folder_with_pictures_and_that_is_told(kind: str, tmp_path: Path) -> None:
    config = CONFIG_MAPPING[kind](**_changes(CONFIG_MAPPING[kind](), None))
    tokenizer = tiny_tokenizer()
    config.get_text_config().vocab_size = len(tokenizer)
    whole = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    whole.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=f"only the language model inside this {kind} is read"):
        model = load_policy(Backbone(str(tmp_path)), tokenizer).eval()
    with torch.no_grad():
        expected = whole(input_ids=IDS, use_cache=False).logits
        torch.testing.assert_close(model(input_ids=IDS, use_cache=False).logits, expected)
    read = load_file(tmp_path / "model.safetensors")
    save_file({**read, "v_head.weight": torch.ones(1, 32)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"unexpected: v_head\.weight"):
        load_policy(Backbone(str(tmp_path)), tokenizer)
    short = {name: t for name, t in read.items() if "layers.0." not in name}
    save_file(short, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="missing"):
        load_policy(Backbone(str(tmp_path)), tokenizer)
