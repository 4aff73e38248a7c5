"""Loading backbones: what comes out, and what broken folders are told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from align.errors import AlignError, ConfigError, ModelError
from align.models.adapter_folder import REFERENCE_ADAPTER
from align.models.backbone import Backbone, LoRA
from align.models.description import describe
from align.models.loading import load_policy, load_reward_model, max_positions
from align.models.small import CHATML
from align.models.tokenizer import load_tokenizer
from tests.tiny import save_tiny


def policy(folder: Path, **options):
    backbone = Backbone(str(folder), **options)
    return load_policy(backbone, load_tokenizer(backbone))


def test_policy_is_in_train_mode_with_dropout_off(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "gpt2", "gpt2")
    model = policy(folder)
    assert model.training
    assert not any(m.p for m in model.modules() if isinstance(m, torch.nn.Dropout))
    assert model.original_dropout["resid_pdrop"] == 0.1
    assert any(m.p for m in policy(folder, dropout=True).modules() if isinstance(m, torch.nn.Dropout))


def test_dtype_is_what_the_backbone_says(model_folder: Path) -> None:
    for name in ("float32", "bfloat16", "float64"):
        assert {p.dtype for p in policy(model_folder, dtype=name).parameters()} == {getattr(torch, name)}
    assert "float32" in describe(policy(model_folder, dtype="auto"))


def test_lora_trains_adapters_only(model_folder: Path) -> None:
    model = policy(model_folder, lora=LoRA(r=2))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert "train mode" in describe(model)


def test_random_init_ignores_weights(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    torch.manual_seed(0)
    assert policy(model_folder, random_init=True).training


def test_a_template_that_a_processor_kept_is_the_tokenizers(tmp_path: Path) -> None:
    """Folders of pictures and text had it in a file that no tokenizer reads: they were trained on a plain transcript."""
    folder = save_tiny(tmp_path / "old")
    assert not load_tokenizer(Backbone(str(folder))).chat_template
    kept = folder / "chat_template.json"
    kept.write_text(json.dumps({"chat_template": CHATML}))
    assert load_tokenizer(Backbone(str(folder))).chat_template == CHATML
    kept.write_text("[]")
    with pytest.raises(ModelError, match=r"chat_template.json: expected an object with chat_template"):
        load_tokenizer(Backbone(str(folder)))


def test_own_tokenizer_and_chat_template(tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "chat.jinja").write_text(CHATML)
    tokenizer = load_tokenizer(Backbone(str(model_folder), chat_template=str(tmp_path / "chat.jinja")))
    assert tokenizer.chat_template == CHATML
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(model_folder / name, bare)
    with pytest.raises(ModelError, match=r"no tokenizer files: set model\.backbone\.tokenizer"):
        load_tokenizer(Backbone(str(bare)))
    assert len(load_tokenizer(Backbone(str(bare), tokenizer=str(model_folder)))) > 0
    with pytest.raises(ModelError, match="chat_template nowhere: cannot be read"):
        load_tokenizer(Backbone(str(model_folder), chat_template="nowhere"))


def test_context_length(model_folder: Path) -> None:
    assert max_positions(Backbone(str(model_folder))) == 512


class TestAdapterFolders:
    def adapter(self, model_folder: Path, tmp_path: Path, seed: int = 1) -> Path:
        model = policy(model_folder, lora=LoRA(r=2))
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=0.1)
        model.save_pretrained(str(tmp_path / "adapter"))
        load_tokenizer(Backbone(str(model_folder))).save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter"

    def test_training_goes_on_and_a_frozen_copy_is_kept(self, model_folder: Path, tmp_path: Path) -> None:
        model = policy(self.adapter(model_folder, tmp_path))
        assert isinstance(model, PeftModel)
        assert set(model.peft_config) == {"default", REFERENCE_ADAPTER}
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        assert trained
        assert all(".default." in name for name in trained)

    def test_new_rank_for_an_adapter_is_refused(self, model_folder: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"is an adapter.*leave backbone\.lora out"):
            policy(self.adapter(model_folder, tmp_path), lora=LoRA())

    def test_another_base_is_refused(self, model_folder: Path, tmp_path: Path) -> None:
        adapter = self.adapter(model_folder, tmp_path)
        other = save_tiny(tmp_path / "other", hidden_size=48, num_attention_heads=6)
        settings = json.loads((adapter / "adapter_config.json").read_text())
        (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": str(other)}))
        with pytest.raises(ModelError, match="does not fit its base model"):
            policy(adapter)


@pytest.mark.bad_input
class TestBrokenFolders:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("model.safetensors", b"", "the file is empty"),
            ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
            ("model.safetensors", b"<!DOCTYPE html><html></html>", "a web page"),
            ("model.safetensors", None, r"damaged safetensors file \(\d+ bytes"),
            ("config.json", b"{", r"config.json' is not a valid JSON"),
            ("config.json", b"", r"config.json' is not a valid JSON"),
            ("config.json", b'{"model_type": "nonsense"}', "cannot be loaded"),
            ("tokenizer.json", b"{}", "tokenizer .* cannot be loaded"),
        ],
    )
    def test_damaged_files_are_named(self, model_folder: Path, name: str, content: bytes | None, message: str) -> None:
        path = model_folder / name
        path.write_bytes(path.read_bytes()[:1000] if content is None else content)
        with pytest.raises(ModelError, match=message) as caught:
            policy(model_folder)
        assert "\n" not in str(caught.value)

    def test_missing_files(self, model_folder: Path, tmp_path: Path) -> None:
        (model_folder / "model.safetensors").rename(model_folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match=r"only pickled weights \(pytorch_model.bin\): convert them"):
            policy(model_folder)
        (model_folder / "pytorch_model.bin").unlink()
        with pytest.raises(ModelError, match=r"no weights \(expected model.safetensors\)"):
            policy(model_folder)
        (model_folder / "config.json").unlink()
        with pytest.raises(ModelError, match=r"no config.json"):
            policy(model_folder)

    @pytest.mark.parametrize("path", ["/nowhere/model", "./nowhere", "a/b/c", "~/nowhere-at-all"])
    def test_missing_folders(self, path: str) -> None:
        with pytest.raises(ModelError, match="no such folder"):
            policy(Path(path) if not path.startswith((".", "~")) else path)  # type: ignore[arg-type]

    def test_a_hub_id_without_network(self) -> None:
        with pytest.raises(AlignError, match="cannot be loaded"):
            policy("someone/some-model")  # type: ignore[arg-type]

    def test_a_file_is_no_folder(self, model_folder: Path) -> None:
        with pytest.raises(ModelError, match="a file, expected a model folder"):
            policy(model_folder / "config.json")

    def test_a_tokenizer_larger_than_the_embedding(self, tmp_path: Path) -> None:
        folder = save_tiny(tmp_path / "small", vocab_size=200)
        with pytest.raises(ModelError, match=r"the tokenizer has \d+ tokens, the model's embedding 200 rows"):
            policy(folder)


class TestRewardModels:
    def test_a_causal_model_gets_a_fresh_head(self, model_folder: Path) -> None:
        backbone = Backbone(str(model_folder))
        tokenizer = load_tokenizer(backbone)
        model = load_reward_model(backbone, tokenizer, ["reward"], "<pad>")
        assert model.score.weight.shape == (1, 32)
        assert model.score.weight.std().item() == pytest.approx(1 / 33**0.5, rel=0.5)
        assert model.config.pad_token_id == tokenizer.convert_tokens_to_ids("<pad>")
        assert model.config.id2label == {0: "reward"}

    def test_a_pad_token_is_added_where_there_is_none_to_spare(self, model_folder: Path) -> None:
        backbone = Backbone(str(model_folder))
        tokenizer = load_tokenizer(backbone)
        tokenizer.pad_token = None
        rows = len(tokenizer)
        model = load_reward_model(backbone, tokenizer, ["reward"], None)
        assert tokenizer.pad_token == "<pad>"
        assert model.get_input_embeddings().num_embeddings >= rows

    def test_the_wrong_number_of_outputs_is_refused(self, model_folder: Path, tmp_path: Path) -> None:
        backbone = Backbone(str(model_folder))
        tokenizer = load_tokenizer(backbone)
        load_reward_model(backbone, tokenizer, ["a", "b"], "<pad>").save_pretrained(tmp_path / "rm")
        tokenizer.save_pretrained(tmp_path / "rm")
        with pytest.raises(ModelError, match="a reward model with 2 outputs, expected 1"):
            load_reward_model(Backbone(str(tmp_path / "rm")), tokenizer, ["reward"], "<pad>")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (LoRA, {"r": 0}, r"lora\.r"),
        (LoRA, {"lora_dropout": 1.0}, "lora_dropout"),
        (Backbone, {"path": ""}, r"backbone\.path is empty"),
        (Backbone, {"path": "x", "logit_bytes": 0}, "logit_bytes"),
    ],
)
def test_settings_out_of_range(kind: type, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**settings)


@pytest.mark.bad_input
def test_unknown_lora_targets_are_named(model_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"target_modules \['nothing'\]"):
        policy(model_folder, lora=LoRA(target_modules=["nothing"]))
