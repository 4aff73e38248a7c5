"""Train mode draws nothing at random: not in nested configurations, not in routers; the export keeps the rates."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.errors import ModelError
from align.models.backbone import Backbone, LoRA
from align.models.deterministic import make_deterministic
from align.models.loading import load_policy
from align.models.model_export import export_model
from align.scoring import score_responses
from tests.architectures.shrunk import Variant, random_model
from tests.tiny import random_batch, save_tiny, tiny_model, tiny_tokenizer

RANDOM: dict[str, dict[str, Any]] = {
    "mixtral": {"router_jitter_noise": 0.3},
    "phimoe": {"input_jitter_noise": 0.3},
    "dbrx": {},
    "gemma3": {},
    "opt": {"layerdrop": 0.5},
}


class Tokens:
    def __len__(self) -> int:
        return 64


def saved(name: str, folder: Path) -> Path:
    model = random_model(Variant(name))
    for key, value in RANDOM[name].items():
        setattr(model.config, key, value)
    if name == "gemma3":
        model.config.text_config.attention_dropout = 0.4
    if name == "dbrx":
        model.config.ffn_config.moe_jitter_eps = 0.3
        model.config.attn_config.attn_pdrop = 0.3
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", RANDOM)
def test_train_mode_scores_as_evaluation_mode(name: str, tmp_path: Path) -> None:
    folder = saved(name, tmp_path)
    model: Any = load_policy(Backbone(str(folder)), Tokens())
    assert model.training
    batch = random_batch([2, 2])
    own = score_responses(model, batch, layout="padded").logprobs
    assert torch.equal(own, score_responses(model, batch, layout="padded").logprobs)
    copied = copy.deepcopy(model).train()
    assert torch.equal(own, score_responses(copied, batch, layout="padded").logprobs)
    assert torch.equal(own, score_responses(model.eval(), batch, layout="padded").logprobs)


@pytest.mark.parametrize("name", RANDOM)
def test_dropout_that_is_asked_for_stays(name: str, tmp_path: Path) -> None:
    model = load_policy(Backbone(str(saved(name, tmp_path)), dropout=True), Tokens())
    batch = random_batch([2, 2])
    first, second = (score_responses(model, batch, layout="padded").logprobs for _ in range(2))
    assert not torch.equal(first, second)


def test_an_export_keeps_nested_rates(tmp_path: Path) -> None:
    model: Any = load_policy(Backbone(str(saved("gemma3", tmp_path / "base"))), Tokens())
    assert model.config.text_config.attention_dropout == 0.0
    export_model(model, tiny_tokenizer(), tmp_path / "out")
    assert model.config.text_config.attention_dropout == 0.0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["text_config"]["attention_dropout"] == 0.4


def test_weights_are_not_rescaled_for_evaluation(tmp_path: Path) -> None:
    """RWKV halves them in place, below adapters that it does not know, and says so of the folder it is exported to."""
    random_model(Variant("rwkv"), rescale_every=1).save_pretrained(tmp_path / "base")
    model: Any = load_policy(Backbone(str(tmp_path / "base"), lora=LoRA(r=2)), Tokens())
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.2)
    ids = torch.tensor([[5, 6, 7]])
    trained = model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(model.eval()(input_ids=ids, use_cache=False).logits, trained)
    trained.sum().backward()
    export_model(model.merge_and_unload(), tiny_tokenizer(), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["rescale_every"] == 1
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(found(input_ids=ids, use_cache=False).logits, trained, rtol=1e-4, atol=1e-4)


def test_rates_that_no_configuration_names() -> None:
    model = tiny_model()
    model.model.layers[0].mlp.down_proj = torch.nn.Sequential(model.model.layers[0].mlp.down_proj, torch.nn.Dropout())
    model.model.layers[1].self_attn.attention_dropout = 0.5
    make_deterministic(model.train())
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_the_router_loss_is_spoken_of(tmp_path: Path) -> None:
    model = random_model(Variant("mixtral"))
    model.config.output_router_logits = True
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"router_aux_loss_coef 0.001.*not added to the objective"):
        load_policy(Backbone(str(tmp_path)), Tokens())


def test_a_two_way_model_is_refused(tmp_path: Path) -> None:
    random_model(Variant("bert")).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"model type bert is a two-way model.*is_decoder: false"):
        load_policy(Backbone(str(tmp_path)), Tokens())


def test_a_small_start_is_not_taken_for_a_two_way_model(tmp_path: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        folder = save_tiny(tmp_path / dtype)
        assert load_policy(Backbone(str(folder), dtype=dtype), tiny_tokenizer()) is not None
    assert AutoModelForCausalLM.from_pretrained(folder).config.model_type == "llama"
