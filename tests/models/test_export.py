"""Exported folders open in transformers and PEFT without our code and give the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from align.encoding.templates import make_template
from align.models.backbone import Backbone, LoRA
from align.models.loading import load_policy
from align.models.model_export import export_model
from align.models.tokenizer import load_tokenizer
from align.modules.reward_model import RewardModel
from align.records import Message, PromptFormat
from tests.models.test_reference import disturb
from tests.tiny import random_batch, save_tiny, tiny_tokenizer

IDS = torch.tensor([[0, 9, 10, 11, 30, 40]])


def policy(folder: Path, **options):
    backbone = Backbone(str(folder), **options)
    tokenizer = load_tokenizer(backbone)
    model = load_policy(backbone, tokenizer)
    disturb(model)
    return model, tokenizer


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def test_a_full_folder(tmp_path: Path) -> None:
    model, tokenizer = policy(save_tiny(tmp_path / "gpt2", "gpt2"))
    export_model(model, tokenizer, tmp_path / "out", card="# card")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(opened), logits(model), rtol=0, atol=0)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["resid_pdrop"] == 0.1  # the model's own dropout is back
    assert model.config.resid_pdrop == 0.0
    assert "align" not in (tmp_path / "out" / "config.json").read_text()
    assert (tmp_path / "out" / "README.md").read_text() == "# card"
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "</s>"


def test_an_adapter_folder_and_a_merged_one(model_folder: Path, tmp_path: Path) -> None:
    model, tokenizer = policy(model_folder, lora=LoRA(r=2))
    export_model(model, tokenizer, tmp_path / "adapter")
    export_model(model, tokenizer, tmp_path / "merged", merge=True)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 50_000
    adapted = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(logits(adapted), logits(model), rtol=0, atol=0)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), logits(model), rtol=1e-5, atol=1e-5)
    assert any(p.requires_grad for p in model.parameters())  # merging left the model in training as it was


def test_only_the_trained_adapter_is_written(model_folder: Path, tmp_path: Path) -> None:
    model, tokenizer = policy(model_folder, lora=LoRA(r=2))
    export_model(model, tokenizer, tmp_path / "first")
    again, _ = policy(tmp_path / "first")
    export_model(again, tokenizer, tmp_path / "second")
    assert not (tmp_path / "second" / "reference").exists()
    assert "adapter_model.safetensors" in {p.name for p in (tmp_path / "second").iterdir()}


@pytest.mark.parametrize("merge", [False, True])
def test_prompts_and_stops_of_training_are_in_the_folder(model_folder: Path, tmp_path: Path, merge: bool) -> None:
    model, tokenizer = policy(model_folder)
    template = make_template(tokenizer)
    export_model(model, tokenizer, tmp_path / "out", prompt_format=PromptFormat(4, template.jinja), merge=merge)
    opened = AutoTokenizer.from_pretrained(tmp_path / "out")
    messages = [Message("user", "Hi"), Message("assistant", "Yes"), Message("user", "So?")]
    rendered = opened.apply_chat_template([m.as_turn() for m in messages], tokenize=False, add_generation_prompt=True)
    assert rendered == "<s>" + template.prompt(messages)
    assert tokenizer.chat_template is None  # the tokenizer in use is not changed
    assert 4 in AutoModelForCausalLM.from_pretrained(tmp_path / "out").generation_config.eos_token_id


class TestRewardModel:
    @pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma", "gpt2", "pythia", "opt"])
    @pytest.mark.parametrize("lora", [None, LoRA(r=2)])
    def test_scores_in_transformers_equal_ours(self, tmp_path: Path, family: str, lora: LoRA | None) -> None:
        module = RewardModel(Backbone(str(save_tiny(tmp_path / "base", family)), lora=lora))
        module.build_model()
        disturb(module.model)
        module.export(tmp_path / "rm", merge=lora is not None)
        opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm").eval()
        assert opened.config.id2label == {0: "reward"}
        batch = random_batch([2, 3, 1], vocab=200)
        prompts = torch.split(batch.prompt_ids, list(batch.prompt_lengths))
        responses = torch.split(batch.response_ids, list(batch.response_lengths))
        rows = [torch.cat([prompts[p], r]) for p, r in zip(batch.prompt_of, responses, strict=True)]
        with torch.no_grad(), module.evaluating():
            ours = module.rewards(batch)
            for side in ("right", "left"):
                padded = torch.nn.utils.rnn.pad_sequence(
                    rows, batch_first=True, padding_value=opened.config.pad_token_id, padding_side=side
                )
                mask = torch.nn.utils.rnn.pad_sequence(
                    [torch.ones_like(r) for r in rows], batch_first=True, padding_side=side
                )
                positions = (mask.cumsum(-1) - 1).clamp(min=0)
                options = {} if family == "opt" else {"position_ids": positions}
                theirs = opened(input_ids=padded, attention_mask=mask, **options).logits[:, 0]
                torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)

    def test_an_adapter_folder_opens_in_peft(self, model_folder: Path, tmp_path: Path) -> None:
        from peft import AutoPeftModelForSequenceClassification

        module = RewardModel(Backbone(str(model_folder), lora=LoRA(r=2)))
        module.build_model()
        disturb(module.model)
        module.export(tmp_path / "rm")
        opened = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "rm", num_labels=1).eval()
        batch = random_batch([1], vocab=200)
        with torch.no_grad(), module.evaluating():
            theirs = opened(input_ids=torch.cat([batch.prompt_ids, batch.response_ids])[None]).logits[0, 0]
            torch.testing.assert_close(theirs, module.rewards(batch)[0], rtol=1e-5, atol=1e-6)

    def test_a_reward_model_can_be_trained_on(self, model_folder: Path, tmp_path: Path) -> None:
        first = RewardModel(Backbone(str(model_folder)))
        first.build_model()
        disturb(first.model)
        first.export(tmp_path / "rm")
        second = RewardModel(Backbone(str(tmp_path / "rm")))
        second.build_model()
        batch = random_batch([2])
        torch.testing.assert_close(second.rewards(batch), first.rewards(batch), rtol=0, atol=0)


def test_the_card_has_a_header_the_hub_reads(model_folder: Path, tmp_path: Path) -> None:
    module = RewardModel(Backbone(str(model_folder)))
    module.build_model()
    module.export(tmp_path / "rm")
    _, header, body = (tmp_path / "rm" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header)["base_model"] == str(model_folder)
    assert "centering: 0.0" in body
    assert "torch 2." in body


def test_pad_equal_to_eos_does_not_hide_the_eos(tmp_path: Path) -> None:
    """The trap: a classifier that pads with EOS reads the token before EOS."""
    folder = save_tiny(tmp_path / "base")
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    module = RewardModel(Backbone(str(folder)))
    module.build_model()
    module.export(tmp_path / "rm")
    opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    assert opened.config.pad_token_id != tokenizer.eos_token_id
    assert AutoTokenizer.from_pretrained(tmp_path / "rm").pad_token_id == opened.config.pad_token_id
