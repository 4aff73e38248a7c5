"""Every kind of adapter that PEFT writes: trained on from its folder, exported, opened again by plain PEFT, gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from align.errors import ModelError
from align.models.adapters import adapters_off, evaluating
from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.models.model_export import export_model
from align.models.tokenizer import load_tokenizer
from tests.tiny import save_tiny

IDS = torch.tensor([[3, 5, 7, 9, 11, 4]])
LAYERS = ["q_proj", "v_proj"]
KINDS: dict[str, dict[str, Any]] = {
    "VeraConfig": {"r": 4},
    "IA3Config": {"feedforward_modules": []},
    "BOFTConfig": {"boft_block_size": 4},
    "OFTConfig": {"r": 0, "oft_block_size": 4},
    "LoraConfig": {"r": 4, "init_lora_weights": "pissa"},
    "LoHaConfig": {"r": 4},
    "LoKrConfig": {"r": 4},
    "AdaLoraConfig": {"init_r": 4, "total_step": 10},
    "HRAConfig": {"r": 4},
    "FourierFTConfig": {"n_frequency": 10},
    "LNTuningConfig": {"target_modules": ["input_layernorm"]},
    "RandLoraConfig": {"r": 4},
    "C3AConfig": {"block_size": 4},
    "MissConfig": {"r": 4},
    "VBLoRAConfig": {"r": 4, "num_vectors": 8, "vector_length": 8, "topk": 2},
    "ShiraConfig": {"r": 4},
    "TrainableTokensConfig": {"token_indices": [3, 5], "target_modules": ["embed_tokens"]},
    "DeloraConfig": {"r": 4},
    "OSFConfig": {},
    "GraloraConfig": {"r": 4},
    "UniLoraConfig": {"r": 4},
    "WaveFTConfig": {"n_frequency": 10},
}
QUICK = ("VeraConfig", "IA3Config", "OFTConfig", "LoraConfig")


@torch.no_grad()
def moved(model: Any) -> Any:
    """Change what is trained, as training would."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def logits(model: Any) -> Tensor:
    with evaluating(model):
        return model(input_ids=IDS).logits  # type: ignore[no-any-return]


def opened(base: Path, folder: Path) -> Any:
    """Open a folder with PEFT alone, on the base as it is."""
    return peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k in QUICK else pytest.mark.slow) for k in KINDS])
def test_a_folder_is_trained_on_exported_and_opened_again(kind: str, model_folder: Path, tmp_path: Path) -> None:
    save_tiny(model_folder, hidden_size=64, intermediate_size=128)
    torch.manual_seed(0)
    settings = {"target_modules": LAYERS, **KINDS[kind]}
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    config = getattr(peft, kind)(task_type="CAUSAL_LM", **settings)
    moved(peft.get_peft_model(base, config)).save_pretrained(tmp_path / "start")
    start = logits(opened(model_folder, tmp_path / "start"))
    backbone = Backbone(str(tmp_path / "start"))
    tokenizer = load_tokenizer(backbone)
    model: Any = load_policy(backbone, tokenizer, masters=True)
    torch.testing.assert_close(logits(model), start, atol=1e-5, rtol=1e-5)
    if kind != "LoraConfig":  # PiSSA takes its start out of the base
        with adapters_off(model):
            torch.testing.assert_close(logits(model), logits(AutoModelForCausalLM.from_pretrained(model_folder)))
    trained = [name for name, parameter in moved(model).named_parameters() if parameter.requires_grad]
    own = logits(model)
    assert (own - start).abs().max() > 1e-3
    export_model(model, tokenizer, tmp_path / "export")
    torch.testing.assert_close(logits(opened(model_folder, tmp_path / "export")), own, atol=1e-5, rtol=1e-5)
    resumed = load_policy(backbone, tokenizer, masters=True)
    state = model.state_dict()
    resumed.load_state_dict({name: state[name] for name in trained}, strict=False)  # what a checkpoint holds
    torch.testing.assert_close(logits(resumed), own, atol=1e-5, rtol=1e-5)


@pytest.mark.bad_input
def test_an_adapter_of_tasks_is_refused(model_folder: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    config = peft.PolyConfig(task_type="CAUSAL_LM", target_modules=LAYERS, r=2)
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "poly")
    backbone = Backbone(str(tmp_path / "poly"))
    with pytest.raises(ModelError, match="POLY asks for the task of every row"):
        load_policy(backbone, load_tokenizer(backbone))
