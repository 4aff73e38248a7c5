"""Adapter files whose weights PEFT would take for those of an older transformers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from align.errors import ModelError
from align.models import adapter_names
from align.models.backbone import Backbone, LoRA
from align.models.loading import load_policy
from align.models.model_export import export_model
from tests.architectures.shrunk import Variant, random_model
from tests.models.test_unadapted import IDS, Tokens, moved
from tests.tiny import tiny_tokenizer


@pytest.fixture
def adapted(tmp_path: Path) -> Any:
    """A Laguna, whose checkpoints have `shared_expert` where its class has `shared_experts`, under adapters."""
    random_model(Variant("laguna")).save_pretrained(tmp_path / "base")
    lora = LoRA(r=2, target_modules=["q_proj", "up_proj", "down_proj"], use_dora=True)
    return moved(load_policy(Backbone(str(tmp_path / "base"), lora=lora), Tokens()))


@torch.no_grad()
def test_plain_peft_reads_every_weight(adapted: Any, tmp_path: Path) -> None:
    export_model(adapted, tiny_tokenizer(), tmp_path / "adapter")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        found = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    wanted = adapted(input_ids=IDS, use_cache=False).logits
    torch.testing.assert_close(found.eval()(input_ids=IDS, use_cache=False).logits, wanted)
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        assert any(".shared_expert.up_proj.lora_A" in name for name in file.keys())  # noqa: SIM118


def test_a_weight_that_no_name_brings_back_is_refused(
    adapted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_names, "_older", lambda model, name: [])
    with pytest.raises(ModelError, match=r"PEFT reads base_model.model.model.layers.1.mlp.*another name.*with merge"):
        export_model(adapted, tiny_tokenizer(), tmp_path / "adapter")
