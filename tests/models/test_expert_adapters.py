"""Adapters on the experts of a mixture: trained from ln 2, equal to plain PEFT when loaded, merged, added up, and off."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from align.cli.main import main
from align.evaluation.run_reader import read_series
from align.models.adapted import add_trained, load_bare
from align.models.adapters import freeze_but
from align.models.backbone import Backbone, LoRA
from align.models.combined import save_combined
from align.models.stage import base_hash
from tests.test_configs import CPU, METHOD

EXPERTS = ["gate_up_proj", "down_proj"]
SIZES: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 16, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2},
    **{"max_position_embeddings": 512},
}


@pytest.fixture
def mixture(model_folder: Path) -> str:
    """The tiny model's tokenizer with a mixture of four experts."""
    vocabulary = json.loads((model_folder / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3_moe", vocab_size=vocabulary, **SIZES))
    for file in model_folder.glob("*.safetensors"):
        file.unlink()
    model.save_pretrained(model_folder)
    return str(model_folder)


def test_experts_are_trained(mixture: str, pairs_file: Path, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    given = ["fit", "-c", METHOD, "-c", CPU, "--data", "PreferenceFileDataModule", "--data.path", str(pairs_file)]
    named = [f"mlp.experts.{name}" for name in EXPERTS]
    lora = ["--model.backbone.lora.r", "2", "--model.backbone.lora.target_parameters", json.dumps(named)]
    steps = ["--data.batching.groups", "4", "--trainer.max_steps", "3", "--model.optimizer.learning_rate", "1e-2"]
    assert main([*given, "--model.backbone.path", mixture, *lora, *steps, "--trainer.default_root_dir", run]) == 0
    losses = read_series(tmp_path / "run")["train/loss"].values
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses[-1] < losses[0] - 0.05
    assert main(["export", "--run", run, "--out", str(tmp_path / "merged"), "--merge", "true"]) == 0

    base = AutoModelForCausalLM.from_pretrained(mixture).eval()
    ids = torch.randint(5, 200, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        start = base(input_ids=ids).logits
        adapted: Any = peft.PeftModel.from_pretrained(base, f"{run}/model").eval()
        trained = adapted(input_ids=ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()(input_ids=ids).logits
    moved = [name for name, p in adapted.named_parameters() if "experts" in name and "lora_B" in name and p.any()]
    assert len(moved) == SIZES["num_hidden_layers"] * len(EXPERTS)
    assert (trained - start).abs().max() > 0.05
    torch.testing.assert_close(merged, trained, rtol=1e-4, atol=1e-5)


def test_adapters_on_experts_are_written_as_one(mixture: str, tmp_path: Path) -> None:
    """A first stage's adapters sit on experts and router, those of the second on other layers and in fewer blocks."""
    base: Any = load_bare(Backbone(mixture), range(AutoConfig.from_pretrained(mixture).vocab_size))
    plain = base_hash(base)
    model = add_trained(base, ["good"], LoRA(r=2, lora_alpha=4))
    model = add_trained(model, ["default"], LoRA(r=3, lora_alpha=5), blocks=1)
    assert base_hash(model) == plain
    freeze_but(model, ["good", "default"], ["default"])
    torch.manual_seed(1)
    ids = torch.randint(5, 200, (2, 12))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn_like(parameter))
        with_both = model.eval()(input_ids=ids).logits
        save_combined(model, tmp_path / "one", None)
        opened = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(mixture), tmp_path / "one").eval()
        torch.testing.assert_close(opened(input_ids=ids).logits, with_both, rtol=1e-4, atol=1e-5)
        experts = [name for name, _ in opened.named_parameters() if "experts" in name and ".lora_A." in name]
        without = AutoModelForCausalLM.from_pretrained(mixture).eval()(input_ids=ids).logits
    assert len(experts) == SIZES["num_hidden_layers"] * len(EXPERTS)
    assert (with_both - without).abs().max() > 0.05
