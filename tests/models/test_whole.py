"""Weights of a folder against the model: whatever is missing, left over or of another shape is named in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from align.cli.main import main
from align.errors import ModelError
from align.models.backbone import Backbone
from align.models.loading import load_part, load_policy, load_reward_model
from align.models.tokenizer import load_tokenizer
from align.rewards.reward_model_scorer import RewardModelScorer
from align.rewards.text_classifier import TextClassifier
from tests.tiny import FAMILIES, save_reward_model, save_tiny, tiny_config, tiny_tokenizer

WEIGHTS = "model.safetensors"
LAYER = "model.layers.1."


def policy(folder: Path, **options: Any) -> Any:
    backbone = Backbone(str(folder), **options)
    return load_policy(backbone, load_tokenizer(backbone))


def reward(folder: Path) -> Any:
    backbone = Backbone(str(folder))
    return load_reward_model(backbone, load_tokenizer(backbone), ["reward"], "<pad>")


def rewrite(folder: Path, change: Any) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def without_layer(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in weights.items() if not k.startswith(LAYER)}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_whole_folders_load(tmp_path: Path, family: str, tied: bool) -> None:
    """Ties and names that transformers changes on the way are no faults."""
    folder = save_tiny(tmp_path / "base", family, tie_word_embeddings=tied, vocab_size=300)
    expected = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    found = policy(folder).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    if family not in ("cohere", "granite"):  # transformers has no classifier of these
        reward(folder)


class TestFaults:
    def test_a_missing_layer(self, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        rewrite(model_folder, without_layer)
        with pytest.raises(ModelError, match=r"missing: model\.layers\.1\..* and \d more") as caught:
            policy(model_folder)
        assert "\n" not in str(caught.value)
        with pytest.raises(ModelError, match=r"missing: model\.layers\.1\."):
            reward(model_folder)
        args = ["generate", "--model.path", str(model_folder), "--prompts", "nowhere", "--out", "nowhere"]
        assert main(args) == 2

    def test_one_layer_too_many(self, model_folder: Path) -> None:
        rewrite(model_folder, lambda w: {**w, **{k.replace("rs.1", "rs.2"): v.clone() for k, v in w.items()}})
        with pytest.raises(ModelError, match=r"unexpected: model\.layers\.2\..* and \d more"):
            policy(model_folder)

    def test_another_shape(self, model_folder: Path) -> None:
        name = "model.layers.0.mlp.up_proj.weight"
        rewrite(model_folder, lambda w: {**w, name: w[name][:-1].contiguous()})
        with pytest.raises(ModelError, match=rf"of another shape: {name} has \[47, 32\] for \[48, 32\]"):
            policy(model_folder)

    def test_an_untied_head_that_is_missing(self, tmp_path: Path) -> None:
        folder = save_tiny(tmp_path / "base", tie_word_embeddings=False)
        rewrite(folder, lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"})
        with pytest.raises(ModelError, match=r"missing: lm_head\.weight"):
            policy(folder)

    def test_a_shard_that_is_missing(self, model_folder: Path) -> None:
        AutoModelForCausalLM.from_pretrained(model_folder).save_pretrained(model_folder, max_shard_size="50kB")
        (model_folder / WEIGHTS).unlink()
        shards = sorted(model_folder.glob("model-*.safetensors"))
        assert len(shards) > 1
        policy(model_folder)
        shards[-1].unlink()
        with pytest.raises(ModelError, match=shards[-1].name):
            policy(model_folder)

    def test_an_index_that_forgets_a_layer(self, model_folder: Path) -> None:
        AutoModelForCausalLM.from_pretrained(model_folder).save_pretrained(model_folder, max_shard_size="50kB")
        (model_folder / WEIGHTS).unlink()
        for shard in model_folder.glob("model-*.safetensors"):
            save_file(without_layer(load_file(shard)), shard, metadata={"format": "pt"})
        path = model_folder / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        path.write_text(json.dumps({**index, "weight_map": without_layer(index["weight_map"])}))
        with pytest.raises(ModelError, match=r"missing: model\.layers\.1\."):
            policy(model_folder)

    def test_a_reward_model_is_no_policy(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"unexpected: score\.weight"):
            policy(save_reward_model(tmp_path / "rm"))


class TestHeads:
    def test_a_head_of_another_name(self, tmp_path: Path) -> None:
        folder = save_reward_model(tmp_path / "rm")
        rewrite(folder, lambda w: {("v_head.weight" if k == "score.weight" else k): v for k, v in w.items()})
        with pytest.raises(ModelError, match=r"missing: score\.weight; unexpected: v_head\.weight"):
            RewardModelScorer(str(folder))

    def test_a_causal_folder_with_a_head_keeps_it(self, model_folder: Path) -> None:
        """What a tool left that did not change the architecture's name: the head is not drawn anew."""
        head = torch.arange(32.0)[None]
        rewrite(model_folder, lambda w: {**w, "score.weight": head})
        assert torch.equal(reward(model_folder).score.weight, head)

    def test_a_causal_folder_with_another_head(self, model_folder: Path) -> None:
        rewrite(model_folder, lambda w: {**w, "v_head.summary.weight": torch.ones(1, 32)})
        with pytest.raises(ModelError, match=r"unexpected: v_head\.summary\.weight"):
            reward(model_folder)

    def test_a_vocabulary_head_beside_it_is_read_whole(self, tmp_path: Path) -> None:
        folder = save_tiny(tmp_path / "base", tie_word_embeddings=False)
        rewrite(folder, lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"})
        backbone = Backbone(str(folder))
        with pytest.raises(ModelError, match=r"missing: lm_head\.weight"):
            load_part(AutoModelForCausalLM, backbone)

    @pytest.mark.parametrize("kind", ["bert", "deberta-v2", "roberta", "distilbert"])
    def test_encoders_get_one_line(self, tmp_path: Path, kind: str) -> None:
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        config = AutoConfig.for_model(kind, vocab_size=300, num_labels=1, **sizes)
        folder = tmp_path / "encoder"
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        with pytest.raises(ModelError, match=r"an encoder cannot be a reward model here") as caught:
            RewardModelScorer(str(folder))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("kind", ["mamba", "falcon_h1"])
    def test_kinds_without_a_classifier_get_one_line(self, tmp_path: Path, kind: str) -> None:
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        AutoConfig.for_model(kind, vocab_size=300, **sizes).save_pretrained(tmp_path)
        tiny_tokenizer().save_pretrained(tmp_path)
        backbone = Backbone(str(tmp_path), random_init=True)
        with pytest.raises(ModelError, match=f"no sequence classifier of model type {kind}") as caught:
            load_reward_model(backbone, load_tokenizer(backbone), ["reward"], "<pad>")
        assert "spelling" not in str(caught.value)


def test_a_body_without_heads_becomes_a_reward_model(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "base", tie_word_embeddings=False)
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "body")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "body")
    assert reward(tmp_path / "body").score.weight.std() > 0
    with pytest.raises(ModelError, match=r"missing: lm_head\.weight"):
        policy(tmp_path / "body")


def test_a_text_classifier_without_its_head(tmp_path: Path) -> None:
    config = tiny_config("llama", vocab_size=300, num_labels=2)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "classifier")
    tiny_tokenizer().save_pretrained(tmp_path / "classifier")
    classifier = TextClassifier(str(tmp_path / "classifier"), "LABEL_1")
    assert classifier.score([()], ["a cat"]).shape == (1, 1)
    rewrite(tmp_path / "classifier", lambda w: {k: v for k, v in w.items() if k != "score.weight"})
    with pytest.raises(ModelError, match=r"missing: score\.weight"):
        _ = TextClassifier(str(tmp_path / "classifier"), "LABEL_1").attributes
