"""Weights written part by part are those that transformers writes at once, of sharded models and in other dtypes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from align.models import streamed_weights
from align.models.file_weights import weights_in_files
from align.models.sharding import shard
from align.models.streamed_weights import gathered_adapters, save_streamed
from tests.tiny import FAMILIES, GATED

MIXTURE = {**GATED, "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}
LATENT = {
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
PICTURES = {
    "model_type": "gemma3",
    "text_config": {**GATED, "head_dim": 8, "tie_word_embeddings": True},
    "vision_config": {**GATED, "image_size": 16, "patch_size": 8},
    "mm_tokens_per_image": 4,
    "image_token_id": 5,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": FAMILIES["llama"],
    "tied": {**FAMILIES["qwen2"], "tie_word_embeddings": True},
    "gpt2": FAMILIES["gpt2"],
    "experts": {"model_type": "qwen3_moe", **MIXTURE},
    "mixtral": {"model_type": "mixtral", **GATED, "num_local_experts": 4},
    "pictures": PICTURES,
}


def made(kind: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(**MODELS[kind])
    return (AutoModelForImageTextToText if kind == "pictures" else AutoModelForCausalLM).from_config(config)


def held(folder: Path) -> dict[str, Tensor]:
    return {name: values for file in folder.glob("*.safetensors") for name, values in load_file(file).items()}


@pytest.mark.parametrize("kind", MODELS)
def test_a_sharded_model_in_parts(kind: str, tmp_path: Path, mesh: DeviceMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held at once is at most a file and a block; the folder opens, and holds what `save_pretrained` writes."""
    made(kind).save_pretrained(tmp_path / "whole")
    model = made(kind)
    shard(model, mesh)
    monkeypatch.setattr(streamed_weights, "PART", 40_000)
    save_streamed(model, tmp_path / "parts", None)
    expected, found = held(tmp_path / "whole"), held(tmp_path / "parts")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    files = sorted((tmp_path / "parts").glob("*.safetensors"))
    assert len(files) > 1
    assert all(file.stat().st_size < 45_000 for file in files)
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("whole", "parts")]
    assert configs[0] == configs[1]
    opened = type(model).from_pretrained(tmp_path / "parts")
    for name, value in opened.state_dict().items():
        assert torch.equal(value, model.state_dict()[name].full_tensor()), name


def test_buffers_that_lie_in_a_file_are_written(tmp_path: Path, mesh: DeviceMesh) -> None:
    """Biases that choose experts (DeepSeek V3, GLM 4.5) are buffers: a sharded run of them ended at its export."""
    config = AutoConfig.for_model("deepseek_v3", **{**MIXTURE, **LATENT})
    whole = AutoModelForCausalLM.from_config(config)
    whole.model.layers[1].mlp.gate.e_score_correction_bias.copy_(torch.arange(4.0))
    whole.save_pretrained(tmp_path / "whole")
    with weights_in_files():
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    shard(model, mesh)
    save_streamed(model, tmp_path / "parts", None)
    expected, found = held(tmp_path / "whole"), held(tmp_path / "parts")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_disk_that_fills_up_keeps_nobody_waiting(
    tmp_path: Path, mesh: DeviceMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor is gathered all the same: the other processes are in those collectives."""
    model, gathered = made("llama"), []
    shard(model, mesh)
    whole = streamed_weights._whole
    monkeypatch.setattr(streamed_weights, "_whole", lambda *given: gathered.append(1) or whole(*given))
    monkeypatch.setattr(streamed_weights, "PART", 40_000)
    monkeypatch.setattr(streamed_weights, "save_file", Full())
    with pytest.raises(OSError, match="full"):
        save_streamed(model, tmp_path / "out", None)
    assert len(gathered) == len(model.state_dict())


class Full:
    """A disk with room for one file."""

    files = 0

    def __call__(self, *_: object, **__: object) -> None:
        self.files += 1
        if self.files > 1:
            raise OSError("full")


KINDS = {
    "lora": peft.LoraConfig(r=2, target_modules=["q_proj"]),
    "dora": peft.LoraConfig(r=2, target_modules=["q_proj"], use_dora=True, bias="all", modules_to_save=["norm"]),
    "embeddings": peft.LoraConfig(r=2, target_modules=["q_proj", "embed_tokens"]),
    "tokens": peft.LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[3, 5]),
    "vera": peft.VeraConfig(r=2, target_modules=["q_proj"]),
    "ia3": peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_gathered_without_their_base(kind: str, tmp_path: Path, mesh: DeviceMesh) -> None:
    def adapted() -> Any:
        torch.manual_seed(0)
        return peft.get_peft_model(made("llama"), KINDS[kind])

    adapted().save_pretrained(tmp_path / "whole")
    model = adapted()
    shard(model, mesh)
    weights = gathered_adapters(model)
    assert weights is not None
    assert not any("mlp" in name or "v_proj" in name for name in weights if "bias" not in name)
    model.save_pretrained(tmp_path / "sharded", state_dict=weights)
    expected, found = held(tmp_path / "whole"), held(tmp_path / "sharded")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
