"""Merged folders score as the model does with its adapters, or there is no folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from align.errors import ModelError
from align.models import merging
from align.models.backbone import Backbone, LoRA
from align.models.loading import load_policy
from align.models.model_export import export_model
from align.models.tokenizer import load_tokenizer
from align.modules.reward_model import RewardModel
from tests.architectures.shrunk import Variant, random_model
from tests.models.test_reference import disturb
from tests.tiny import save_tiny, tiny_tokenizer

IDS = torch.tensor([[0, 9, 10, 11, 30, 40, 3, 60]])


def logprobs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits.float().log_softmax(-1)


def adapter(base: Path, out: Path, **settings: Any) -> Path:
    """A trained adapter of plain PEFT, with its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(3)
    adapted = peft.get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM", **settings))
    disturb(adapted)
    adapted.save_pretrained(out)
    tiny_tokenizer().save_pretrained(out)
    return out


def loaded(folder: Path, **options: Any) -> tuple[Any, Any]:
    backbone = Backbone(str(folder), **options)
    tokenizer = load_tokenizer(backbone)
    return load_policy(backbone, tokenizer), tokenizer


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["lm_head", "q_proj"]},
        {"target_modules": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [3, 60]},
        {"target_modules": "all-linear", "use_dora": True},
    ],
    ids=lambda s: "-".join(str(v) for v in s.values()),
)
def test_tied_embeddings_with_adapters_are_untied(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Plain PEFT's own forward pass before merging is the truth; transformers ties again what it reads as tied."""
    base = save_tiny(tmp_path / "base", tie_word_embeddings=True)
    folder = adapter(base, tmp_path / "adapter", **settings)
    expected = logprobs(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder))
    model, tokenizer = loaded(folder)
    torch.testing.assert_close(logprobs(model), expected, rtol=0, atol=1e-6)
    export_model(model, tokenizer, tmp_path / "merged", merge=True)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logprobs(merged), expected, rtol=0, atol=1e-4)
    ends = [merged.get_input_embeddings().weight, merged.get_output_embeddings().weight]
    written = json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"]
    assert written == torch.equal(*ends)
    torch.testing.assert_close(logprobs(model), expected, rtol=0, atol=1e-6)  # the model itself is as it was


def test_a_plain_adapter_keeps_the_tie(tmp_path: Path) -> None:
    model, tokenizer = loaded(save_tiny(tmp_path / "base", tie_word_embeddings=True), lora=LoRA(r=2))
    disturb(model)
    export_model(model, tokenizer, tmp_path / "merged", merge=True)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "merged").config.tie_word_embeddings


def test_a_folder_that_differs_is_refused_and_not_left(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge that forgets the adapters stands for any fault of merging."""
    monkeypatch.setattr(merging, "merge", lambda model: model.unload())
    model, tokenizer = loaded(model_folder, lora=LoRA(r=2))
    disturb(model)
    with pytest.raises(ModelError, match=r"merged, the model scores a row [\d.]+ nats per token .* apart"):
        export_model(model, tokenizer, tmp_path / "out" / "merged", merge=True)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("scale", "dtype"), [(0.05, torch.float32), (0.0, torch.bfloat16)])
def test_sixteen_bits_are_kept_where_rounding_does_not_show(tmp_path: Path, scale: float, dtype: torch.dtype) -> None:
    base = save_tiny(tmp_path / "base")
    AutoModelForCausalLM.from_pretrained(base).bfloat16().save_pretrained(base)
    model, tokenizer = loaded(base, dtype="bfloat16", lora=LoRA(r=2))
    if scale:
        disturb(model)
    expected = logprobs(copy.deepcopy(model).float())
    export_model(model, tokenizer, tmp_path / "merged", merge=True, card="# card")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert {p.dtype for p in merged.parameters()} == {dtype}
    assert (logprobs(merged.float()) - expected).abs().max() < (1e-2 if scale else 1e-3)
    assert ("Written in bfloat16" in (tmp_path / "merged" / "README.md").read_text()) == (dtype == torch.bfloat16)


def test_a_merged_reward_model_gives_the_same_rewards(model_folder: Path, tmp_path: Path) -> None:
    module = RewardModel(Backbone(str(model_folder), lora=LoRA(r=2)))
    module.build_model()
    disturb(module.model)
    module.export(tmp_path / "rm", merge=True)
    opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm").eval()
    with torch.no_grad():
        torch.testing.assert_close(opened(IDS).logits, module.model.eval()(input_ids=IDS).logits, rtol=0, atol=1e-5)


def test_the_row_holds_added_tokens(model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    row = merging.probe_row(AutoModelForCausalLM.from_pretrained(model_folder), tokenizer)
    assert row.shape == (1, merging.ROW)
    assert set(tokenizer.added_tokens_decoder) <= set(row[0].tolist())


def test_a_weight_under_two_adapters_is_named(tmp_path: Path) -> None:
    """Zamba 2 runs one block at several depths, and each gets adapters of its own."""
    base = random_model(Variant("zamba2"), vocab_size=len(tiny_tokenizer()))
    model = peft.get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(
        ModelError, match=r"layers.1.shared_\S+q_proj and \S+layers.3\S+q_proj are one weight under two"
    ):
        export_model(model, tiny_tokenizer(), tmp_path / "merged", merge=True)
    assert not (tmp_path / "merged").exists()
