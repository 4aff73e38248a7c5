"""A base in 4 bits under adapters: what it computes, what is refused, what it is exported as."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from align.cli.main import main
from align.errors import ConfigError
from align.evaluation.run_reader import read_series
from align.models.adapters import adapters_off
from align.models.backbone import Backbone, LoRA
from align.models.description import describe
from align.models.loading import held_by_bitsandbytes, load_policy
from align.models.model_export import export_model
from align.models.sharding import shard
from align.models.tokenizer import load_tokenizer
from align.scoring.decoder import run_decoder
from align.sizing.memory import NF4
from align.training.optimizer import Optimizer
from tests.test_configs import CPU, METHOD
from tests.tiny import save_tiny

bitsandbytes = pytest.importorskip("bitsandbytes")


@pytest.fixture
def base(model_folder: Path) -> Path:
    """Widths of a whole number of blocks of 64, as bitsandbytes wants them."""
    save_tiny(model_folder, hidden_size=64, intermediate_size=128)
    return model_folder


def loaded(base: Path, **settings: Any) -> Any:
    backbone = Backbone(str(base), lora=LoRA(r=4), quantization="nf4", **settings)
    return load_policy(backbone, load_tokenizer(backbone), masters=True)


def dequantised(base: Path) -> Any:
    """A plain model of transformers whose linear layers went through bitsandbytes' own functions and back."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Linear) and name != "lm_head":
            packed, state = bitsandbytes.functional.quantize_4bit(
                part.weight.data, quant_type="nf4", compress_statistics=True
            )
            part.weight.data = bitsandbytes.functional.dequantize_4bit(packed, state)
    return model


@torch.no_grad()
def test_without_its_adapters_it_is_the_base_through_4_bits_and_back_in_any_order(base: Path) -> None:
    """The first pass in evaluation mode must not change what later ones compute."""
    model, ids = loaded(base), torch.tensor([[3, 5, 7, 9, 11, 4]])
    expected = dequantised(base)(input_ids=ids).logits
    with adapters_off(model):
        for mode in (True, False, True):
            model.train(mode)
            torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-4)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)(input_ids=ids).logits
    assert (plain - expected).abs().max() > 1e-3  # 4 bits do show
    whole = AutoModelForCausalLM.from_pretrained(base).num_parameters()
    adapters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert describe(model).startswith(f"{adapters:,} of {whole + adapters:,} parameters trained")
    assert "nf4" in describe(model)


def test_norms_are_float32_and_only_adapters_have_gradients(base: Path) -> None:
    model = loaded(base, dtype="bfloat16")
    model(input_ids=torch.tensor([[3, 5, 7, 9]])).logits.float().sum().backward()
    assert {p.dtype for name, p in model.named_parameters() if "norm" in name} == {torch.float32}
    assert all(("lora_" in name) == (p.grad is not None) for name, p in model.named_parameters())


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lora": None}, "backbone.quantization nf4: full fine-tuning of a quantised base is not possible"),
        ({"lora": LoRA(modules_to_save=["lm_head"])}, "modules_to_save trains copies"),
        ({"lora": LoRA(), "random_init": True}, "random_init leaves them out"),
    ],
)
def test_what_cannot_be_quantised_is_refused(settings: dict[str, Any], told: str, base: Path) -> None:
    backbone = Backbone(str(base), quantization="nf4", **settings)
    with pytest.raises(ConfigError, match=told):
        load_policy(backbone, load_tokenizer(backbone), masters=True)


def in_bits(base: Path, folder: Path, **settings: Any) -> Path:
    """Write a base as others share it: in few bits already."""
    quantised = BitsAndBytesConfig(**settings, llm_int8_skip_modules=["lm_head"])
    AutoModelForCausalLM.from_pretrained(base, quantization_config=quantised).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@torch.no_grad()
def test_a_base_that_is_in_4_bits_on_disk(base: Path, tmp_path: Path) -> None:
    """Trained on as one that is quantised while it is read; there is nothing in full precision to merge into."""
    double = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    backbone = Backbone(str(in_bits(base, tmp_path / "nf4", **double)), lora=LoRA(r=4))
    tokenizer, ids = load_tokenizer(backbone), torch.tensor([[3, 5, 7, 9, 11, 4]])
    model: Any = load_policy(backbone, tokenizer, masters=True)
    with adapters_off(model):
        torch.testing.assert_close(model(input_ids=ids).logits, dequantised(base)(input_ids=ids).logits)
    assert {p.dtype for name, p in model.named_parameters() if "norm" in name} == {torch.float32}
    assert not any(getattr(part, "support_avx512bf16_for_cpu", False) for part in model.modules())
    with pytest.raises(ConfigError, match="has its weights in 4 bits only: export the adapter without merge"):
        export_model(model, tokenizer, tmp_path / "merged", merge=True)
    assert not (tmp_path / "merged").exists()
    assert held_by_bitsandbytes(backbone)


def test_a_base_in_4_bits_in_shards(base: Path, mesh: DeviceMesh) -> None:
    """Losses and gradients are those of the whole one to the bit, twice: gathered bytes are let go of in between."""
    ids, draw = torch.tensor([[3, 5, 7, 9, 11, 4]]), torch.randn(6, 64)

    def step(model: Any) -> list[torch.Tensor]:
        model.zero_grad()
        loss = (run_decoder(model, input_ids=ids, use_cache=False).last_hidden_state[0] * draw).sum()
        loss.backward()
        found = [p.grad for p in model.parameters() if p.grad is not None]
        return [loss.detach(), *(grad.full_tensor() if isinstance(grad, DTensor) else grad for grad in found)]

    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(loaded(base))
    whole, sharded = models
    shard(sharded, mesh)
    packed = [p for name, p in sharded.named_parameters() if "q_proj.base_layer.weight" in name]
    assert [(type(p), p.dtype) for p in packed] == [(DTensor, torch.uint8)] * 2
    expected = step(whole)
    for _ in range(2):
        assert all(map(torch.equal, step(sharded), expected))


@pytest.mark.bad_input
def test_a_base_in_8_bits_is_refused(base: Path, tmp_path: Path) -> None:
    """bitsandbytes 0.50 on a CPU: logits of a layer in train mode are .004 apart from those in evaluation mode."""
    backbone = Backbone(str(in_bits(base, tmp_path / "int8", load_in_8bit=True)), lora=LoRA(r=4))
    with pytest.raises(ConfigError, match=r"int8: a quantised model in 8 bits \(LLM.int8\)"):
        load_policy(backbone, load_tokenizer(backbone), masters=True)


def fit(base: Path, pairs: Path, run: Path, *words: str) -> int:
    given = ["fit", "-c", METHOD, "-c", CPU, "--data", "PreferenceFileDataModule", "--data.path", str(pairs)]
    small = ["--data.batching.groups", "4", "--trainer.limit_val_batches", "0", "--trainer.max_steps", "3"]
    lora = ["--model.backbone.lora.r", "4", "--model.optimizer.learning_rate", "1e-3"]
    return main(
        [*given, *small, "--model.backbone.path", str(base), *lora, "--trainer.default_root_dir", str(run), *words]
    )


def test_a_run_and_its_folders(base: Path, pairs_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """DPO starts at log 2 by the adapters switched off; the adapter folder and the merged one open in PEFT and transformers."""
    run = tmp_path / "run"
    assert fit(base, pairs_file, run, "--model.backbone.quantization", "nf4") == 0
    losses = read_series(run)["train/loss"].values
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[-1] < losses[0]
    assert json.loads((run / "model" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    caplog.set_level("INFO")
    export = ["export", "--run", str(run), "--out", str(tmp_path / "merged"), "--merge", "true"]
    assert main(export) == 0
    assert "in full precision a row is " in caplog.text
    ids = torch.tensor([[3, 5, 7, 9, 11, 4]])
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    expected = PeftModel.from_pretrained(plain, run / "model").eval()(input_ids=ids).logits
    assert not hasattr(merged.config, "quantization_config")
    torch.testing.assert_close(merged.eval()(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("optim", ["adamw_8bit", "lion", "lion_8bit", "muon"])
def test_optimisers_of_libraries_train(optim: str, base: Path, pairs_file: Path, tmp_path: Path) -> None:
    assert fit(base, pairs_file, tmp_path / "run", "--model.optimizer.optim", optim) == 0
    losses = read_series(tmp_path / "run")["train/loss"].values
    assert losses[-1] < losses[0]


def test_the_bytes_of_states_are_those_that_are_counted() -> None:
    """Of a matrix of 2^20 float32 weights, after a step."""
    for name in ("adamw", "adamw_8bit", "lion", "lion_8bit", "muon"):
        weight = torch.nn.Parameter(torch.randn(64, 1 << 14))  # Muon squares the short side
        settings = Optimizer(learning_rate=1e-3, optim=name, lr_scheduler_type="constant")  # type: ignore[arg-type]
        optimizer = settings.build([weight], 1e-3, 1, fused=False)["optimizer"]
        weight.grad = torch.randn_like(weight)
        optimizer.step()
        state = [v for v in optimizer.state[weight].values() if isinstance(v, torch.Tensor)]
        held = sum(v.numel() * v.element_size() for v in state)
        assert held / (4 * weight.numel()) == pytest.approx(settings.state_bytes, rel=0.02), name


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"optim": "lion"}, "usual rates are AdamW's"),
        ({"optim": "muon", "adam_beta2": 0.95}, "adam_beta2 has no effect on optimizer.optim muon"),
        ({"optim": "adamw_8bit", "kahan": True, "adam_beta2": 0.99}, "kahan is AdamW's"),
    ],
)
def test_settings_an_optimiser_does_not_read_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Optimizer(**settings)


@pytest.mark.bad_input
def test_muon_refuses_what_is_no_matrix() -> None:
    with pytest.raises(ConfigError, match=r"a weight of shape \[8\] is trained: set backbone.lora"):
        Optimizer(optim="muon").build([torch.nn.Parameter(torch.zeros(8))], 1e-3, 1, fused=False)


def test_the_bytes_of_4_bits_are_those_that_are_counted() -> None:
    """Weights, scales, scales of scales and the table of 256 values that the latter come with."""
    weight = torch.randn(2048, 2048)
    packed, state = bitsandbytes.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    held = [packed, state.absmax, state.state2.absmax]
    assert sum(v.numel() * v.element_size() for v in held) / weight.numel() == pytest.approx(NF4, rel=1e-3)
