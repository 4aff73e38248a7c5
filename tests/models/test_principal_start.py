"""PiSSA: the model does not change, the start is its own principal part, exports are plain LoRA on the plain base."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from peft import PeftModel
from transformers import AutoModelForCausalLM

from align.errors import ConfigError, ModelError
from align.models import principal_start
from align.models.backbone import Backbone, LoRA
from align.models.loading import load_policy
from align.models.model_export import export_model
from align.models.references import NamedAdapter, default_reference
from align.models.tokenizer import load_tokenizer
from align.modules.dpo import DPOModule
from align.modules.ppo import PPOModule
from align.modules.preferred_dispreferred import PreferredDispreferredModule
from align.modules.reward_model import RewardModel
from align.training.optimizer import Optimizer, refuse_sharded
from tests.models.test_merging import logprobs
from tests.models.test_reference import disturb
from tests.modules.fitting import fit, pairs_data
from tests.tiny import save_tiny

TARGETS: dict[str, list[str]] = {"llama": ["q_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"]}
RSLORA: dict[str, Any] = {"r": 3, "use_rslora": True, "init_lora_weights": "pissa_niter_4"}


def loaded(folder: Path, **options: Any) -> tuple[Any, Any]:
    backbone = Backbone(str(folder), **options)
    tokenizer = load_tokenizer(backbone)
    return load_policy(backbone, tokenizer), tokenizer


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("family", TARGETS)  # GPT-2's layers hold their weight the other way round
def test_the_start_is_the_principal_part_and_the_model_is_what_it_was(tmp_path: Path, family: str) -> None:
    """Eckart and Young: the best approximation of rank 3, here by an eigendecomposition of W'W."""
    base = save_tiny(tmp_path / "base", family)
    model, _ = loaded(base, lora=LoRA(r=3, target_modules=TARGETS[family], init_lora_weights="pissa"))
    torch.testing.assert_close(logprobs(model), logprobs(plain(base)), rtol=0, atol=1e-5)
    found = 0
    for name, layer in plain(base).named_modules():
        if name.rsplit(".", 1)[-1] in TARGETS[family]:
            adapted = model.get_base_model().get_submodule(name)
            weight = layer.weight.detach().double()
            _, vectors = torch.linalg.eigh(weight.T @ weight)
            principal = weight @ vectors[:, -3:] @ vectors[:, -3:].T
            torch.testing.assert_close(adapted.get_delta_weight("default").double(), principal, rtol=0, atol=1e-5)
            rest = adapted.get_base_layer().weight.double()
            torch.testing.assert_close(rest, weight - principal, rtol=0, atol=1e-5)
            found += 1
    assert found > 2


@pytest.mark.parametrize("lora", [{"r": 3, "init_lora_weights": "pissa"}, RSLORA])
def test_reference_and_exports_stand_on_the_original(tmp_path: Path, lora: dict[str, Any]) -> None:
    base = save_tiny(tmp_path / "base", tie_word_embeddings=True)
    model, tokenizer = loaded(base, lora=LoRA(**lora, modules_to_save=["norm"]))
    disturb(model)
    trained = logprobs(model)
    assert (trained - logprobs(plain(base))).abs().max() > 0.01
    reference = default_reference(model)
    assert isinstance(reference, NamedAdapter)
    torch.testing.assert_close(reference.run(model, logprobs), logprobs(plain(base)), rtol=0, atol=1e-5)
    export_model(model, tokenizer, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (6, True)
    opened = PeftModel.from_pretrained(plain(base), tmp_path / "out")
    torch.testing.assert_close(logprobs(opened), trained, rtol=0, atol=1e-5)
    export_model(model, tokenizer, tmp_path / "merged", merge=True)
    torch.testing.assert_close(logprobs(plain(tmp_path / "merged")), trained, rtol=0, atol=1e-5)


def module_of(folder: Path, start: str = "pissa") -> DPOModule:
    return DPOModule(Backbone(str(folder), lora=LoRA(r=2, init_lora_weights=start)))


def weights(module: DPOModule) -> torch.Tensor:
    return torch.cat([p.flatten() for p in module.model.parameters()])


def test_dpo_starts_at_log_2_and_goes_on_to_the_bit(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    whole, first = module_of(model_folder), module_of(model_folder)
    log = fit(whole, pairs_data(pairs_file))
    assert log.series("train/loss")[0] == pytest.approx(math.log(2), abs=1e-6)
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=4, save_top_k=-1, filename="{step}")
    fit(first, pairs_data(pairs_file), callbacks=[saver], enable_checkpointing=True)
    resumed = module_of(model_folder)
    fit(resumed, pairs_data(pairs_file), ckpt_path=str(tmp_path / "step=4.ckpt"))
    assert torch.equal(weights(resumed), weights(whole))


def test_a_start_that_is_computed_otherwise_elsewhere_is_taken_from_the_checkpoint(
    model_folder: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One iteration from other random vectors ends with another start, as other hardware would with close values."""
    module = module_of(model_folder, "pissa_niter_1")
    saver = ModelCheckpoint(tmp_path, save_last=True)
    fit(module, pairs_data(pairs_file), callbacks=[saver], enable_checkpointing=True)
    monkeypatch.setattr(principal_start, "SEED", 5)
    other = module_of(model_folder, "pissa_niter_1")
    other.build_model()
    assert (weights(other) - weights(module)).abs().max() > 0.01
    other = module_of(model_folder, "pissa_niter_1")
    other.restore(torch.load(tmp_path / "last.ckpt", weights_only=True))
    torch.testing.assert_close(weights(other), weights(module), rtol=0, atol=1e-6)
    torch.testing.assert_close(logprobs(other.model), logprobs(module.model), rtol=0, atol=1e-5)


def test_a_reward_model_opens_as_plain_lora(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    module = RewardModel(Backbone(str(model_folder), lora=LoRA(r=2, init_lora_weights="pissa")))
    fit(module, pairs_data(pairs_file))
    module.export(tmp_path / "out")
    again = RewardModel(Backbone(str(tmp_path / "out")))
    again.build_model()
    ids = torch.tensor([[0, 9, 10, 11, 30, 40, 3, 60]])
    with torch.no_grad():
        rewards = [m.model.eval()(input_ids=ids).logits for m in (module, again)]
    torch.testing.assert_close(rewards[1], rewards[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("lora", "options", "reason"),
    [
        ({}, {"dtype": "bfloat16"}, "which bfloat16 would round to another model: set backbone.dtype float32"),
        ({}, {"dtype": "float64"}, "16 and 32 bits, these have 64: set backbone.dtype float32"),
        ({"target_modules": ["lm_head"]}, {}, "would change base_model.model.lm_head also where its weight is tied"),
        ({"r": 40}, {}, r"q_proj has 32 singular values, and backbone\.lora\.r is 40"),
        ({"target_modules": ["embed_tokens"]}, {}, "is for linear layers, and .*embed_tokens is a Embedding"),
    ],
)
def test_bases_that_would_be_others_are_refused(
    tmp_path: Path, lora: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    base = save_tiny(tmp_path / "base", tie_word_embeddings=True)
    with pytest.raises(ConfigError, match=reason):
        loaded(base, lora=LoRA(**{"r": 2, "init_lora_weights": "pissa", **lora}), **options)


def test_a_layer_that_reads_its_weight_by_itself_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As fused kernels do, which never call their layer: the base has given up what no adapter adds."""
    base = save_tiny(tmp_path / "base")
    fused = lambda self, x: torch.nn.functional.linear(x, self.get_base_layer().weight)  # noqa: E731
    monkeypatch.setattr("peft.tuners.lora.layer.Linear.forward", fused)
    with pytest.raises(ModelError, match="a layer reads its weight without its adapter"):
        loaded(base, lora=LoRA(r=2, init_lora_weights="pissa"))


def test_settings_that_cannot_share_the_base_are_refused(model_folder: Path) -> None:
    for wrong, reason in (
        ({"init_lora_weights": "olora"}, "'olora': expected pissa, pissa_niter_N"),
        ({"init_lora_weights": "pissa", "use_dora": True}, "leave backbone.lora.use_dora out"),
        ({"init_lora_weights": "pissa", "target_parameters": ["x"]}, "leave backbone.lora.target_parameters out"),
    ):
        with pytest.raises(ConfigError, match=reason):
            LoRA(**wrong)
    backbone = Backbone(str(model_folder), lora=LoRA(r=2, init_lora_weights="pissa"))
    with pytest.raises(ConfigError, match="init_lora_weights pissa is for one device or DDP"):
        refuse_sharded(backbone, Optimizer())
    with pytest.raises(ConfigError, match="out of the base, on which good, bad is not alone"):
        PreferredDispreferredModule(backbone).build_model()
    with pytest.raises(ConfigError, match=r"AdapterValue reads the base, .* take TrunkValue or ModelValue"):
        PPOModule(backbone).build_model()
    nf4 = Backbone(str(model_folder), lora=backbone.lora, quantization="nf4")
    with pytest.raises(ConfigError, match="init_lora_weights changes its weights: leave either out"):
        load_policy(nf4, load_tokenizer(nf4))
