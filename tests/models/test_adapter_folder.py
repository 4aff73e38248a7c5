"""Adapter folders: the policy is what plain PEFT loads, the reference the same at step 0, and faults are named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import LoftQConfig, LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from align.errors import ModelError
from align.models.adapted import attach, load_bare
from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.models.model_export import export_model
from align.models.references import Cached, FrozenCopy, NamedAdapter, default_reference
from align.models.tokenizer import load_tokenizer
from align.modules.dpo import DPOModule
from align.scoring import score_responses
from tests.models.test_merging import adapter, loaded, logprobs
from tests.modules.fitting import fit, pairs_data
from tests.tiny import random_batch, save_tiny, tiny_tokenizer

BATCH = random_batch([2, 2, 2])
WEIGHTS = "adapter_model.safetensors"
CHANGING: dict[str, dict[str, Any]] = {
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "loftq": {"init_lora_weights": "loftq", "loftq_config": LoftQConfig(loftq_bits=4)},
    "dora": {"use_dora": True},
    "saved": {"modules_to_save": ["lm_head"]},
    "biases": {"bias": "all"},
}


def rounded(weight: torch.Tensor, *, reduced_rank: int, **_: Any) -> tuple[torch.Tensor, ...]:
    """LoftQ's contract without bitsandbytes, which it asks for: a coarse weight, and the rest by singular vectors."""
    coarse = (weight.detach() * 64).round() / 64
    left, values, right = torch.linalg.svd(weight.detach() - coarse, full_matrices=False)
    root = values[:reduced_rank].sqrt()
    return coarse, root[:, None] * right[:reduced_rank], left[:, :reduced_rank] * root


@pytest.fixture(autouse=True)
def _quantiser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft.tuners.lora.layer.loftq_init", rounded)


def made(tmp_path: Path, kind: str) -> tuple[Path, Path]:
    base = save_tiny(tmp_path / "base", "qwen2", vocab_size=300)  # has biases
    folder = adapter(
        base, tmp_path / "adapter", **{"target_modules": ["q_proj", "v_proj", "up_proj"], **CHANGING[kind]}
    )
    return base, folder


def plain(base: Path, folder: Path) -> Any:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)


@pytest.mark.parametrize("kind", CHANGING)
class TestExact:
    def test_policy_and_reference_are_what_plain_peft_loads(self, tmp_path: Path, kind: str) -> None:
        base, folder = made(tmp_path, kind)
        expected = logprobs(plain(base, folder))
        model, tokenizer = loaded(folder)
        torch.testing.assert_close(logprobs(model), expected, rtol=0, atol=1e-6)
        reference = default_reference(model)
        assert isinstance(reference, FrozenCopy if kind == "biases" else NamedAdapter)
        reference = reference.build(model, Backbone(str(folder)), tokenizer, score_responses)
        found = reference.run(model, logprobs)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(logprobs(model), expected, rtol=0, atol=1e-6)

    def test_exports_load_exactly_in_plain_peft(self, tmp_path: Path, kind: str) -> None:
        base, folder = made(tmp_path, kind)
        model, tokenizer = loaded(folder)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter) * parameter.requires_grad)
        export_model(model, tokenizer, tmp_path / "out")
        torch.testing.assert_close(logprobs(plain(base, tmp_path / "out")), logprobs(model), rtol=0, atol=1e-6)

    def test_dpo_starts_at_log_2(self, tmp_path: Path, kind: str, pairs_file: Path) -> None:
        _, folder = made(tmp_path, kind)
        module = DPOModule(Backbone(str(folder)))
        log = fit(module, pairs_data(pairs_file), limit_train_batches=1)
        assert log.series("train/loss")[0] == pytest.approx(math.log(2), abs=1e-6)


def test_a_cache_of_an_adapter_with_biases_is_its_start(tmp_path: Path) -> None:
    _, folder = made(tmp_path, "biases")
    model, tokenizer = loaded(folder)
    cached = Cached(str(tmp_path / "cache.safetensors"))
    cached = cached.build(model, Backbone(str(folder)), tokenizer, score_responses)
    cached.prepare(model, [BATCH], moved=False)
    with torch.no_grad():
        expected = score_responses(model, BATCH).logprobs
    torch.testing.assert_close(cached.score(model, BATCH).logprobs, expected)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), "PROMPT_TUNING puts virtual tokens"),
        (peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), "PREFIX_TUNING puts virtual tokens"),
        (peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), "P_TUNING puts virtual tokens"),
        (LoraConfig(task_type="CAUSAL_LM", alora_invocation_tokens=[3, 4]), "acts on every token"),
        (LoraConfig(task_type="CAUSAL_LM", init_lora_weights="pissa_niter_4"), "draws at random"),
        (LoraConfig(task_type="SEQ_CLS"), "an adapter for SEQ_CLS, expected one for CAUSAL_LM"),
    ],
)
def test_kinds_that_cannot_be_exact_get_their_reason(
    model_folder: Path, tmp_path: Path, config: Any, reason: str
) -> None:
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model_folder), config)
    model.save_pretrained(tmp_path / "adapter")
    tiny_tokenizer().save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=reason) as caught:
        loaded(tmp_path / "adapter")
    assert "\n" not in str(caught.value)


def test_corda_says_what_is_missing(tmp_path: Path) -> None:
    folder = adapter(save_tiny(tmp_path / "base"), tmp_path / "adapter")
    change(folder, init_lora_weights="corda")
    with pytest.raises(ModelError, match="needs covariances that the folder does not hold"):
        loaded(folder)


def change(folder: Path, **settings: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


class TestFaults:
    @pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}])
    def test_a_missing_weight_is_named(self, tmp_path: Path, settings: dict[str, Any]) -> None:
        folder = adapter(save_tiny(tmp_path / "base", "qwen2", vocab_size=300), tmp_path / "adapter", **settings)
        full = load_file(folder / WEIGHTS)
        for name in full:
            save_file({k: v for k, v in full.items() if k != name}, folder / WEIGHTS, metadata={"format": "pt"})
            with pytest.raises(ModelError, match=r"missing or not a number: ") as caught:
                loaded(folder)
            assert name.removesuffix(".weight") in str(caught.value)
            if "lora" in name and not settings:
                break

    def test_an_unexpected_weight_is_named(self, tmp_path: Path) -> None:
        folder = adapter(save_tiny(tmp_path / "base"), tmp_path / "adapter")
        full = load_file(folder / WEIGHTS)
        first = next(iter(full))
        extra = first.replace("layers.0", "layers.7")
        save_file({**full, extra: full[first].clone()}, folder / WEIGHTS, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"unexpected: .*layers\.7"):
            loaded(folder)

    def test_a_deeper_base_is_refused(self, tmp_path: Path) -> None:
        """Same widths: no shape tells them apart."""
        folder = adapter(save_tiny(tmp_path / "base"), tmp_path / "adapter")
        change(folder, base_model_name_or_path=str(save_tiny(tmp_path / "deep", num_hidden_layers=3)))
        with pytest.raises(ModelError, match=r"missing or not a number: .*layers\.2"):
            loaded(folder)
        change(folder, base_model_name_or_path=str(save_tiny(tmp_path / "flat", num_hidden_layers=1)))
        with pytest.raises(ModelError, match=r"unexpected: .*layers\.1"):
            loaded(folder)

    def test_an_adapter_of_an_adapter_is_refused(self, tmp_path: Path) -> None:
        first = adapter(save_tiny(tmp_path / "base"), tmp_path / "first")
        second = adapter(tmp_path / "base", tmp_path / "second")
        change(second, base_model_name_or_path=str(first))
        with pytest.raises(ModelError, match="is an adapter too: merge that one first"):
            loaded(second)

    def test_no_weights(self, tmp_path: Path) -> None:
        folder = adapter(save_tiny(tmp_path / "base"), tmp_path / "adapter")
        (folder / WEIGHTS).rename(folder / "adapter_model.bin")
        with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
            loaded(folder)


class TestStages:
    def test_an_adapter_that_changes_the_base_is_refused(self, tmp_path: Path) -> None:
        base, folder = made(tmp_path, "pissa")
        backbone = Backbone(str(base))
        with pytest.raises(ModelError, match="changes the base, which other adapters share"):
            attach(load_bare(backbone, load_tokenizer(backbone)), {"good": folder})

    def test_missing_weights_are_named(self, tmp_path: Path) -> None:
        base = save_tiny(tmp_path / "base")
        folder = adapter(base, tmp_path / "adapter")
        full = load_file(folder / WEIGHTS)
        save_file(dict(list(full.items())[1:]), folder / WEIGHTS, metadata={"format": "pt"})
        backbone = Backbone(str(base))
        with pytest.raises(ModelError, match="missing or not a number"):
            attach(load_bare(backbone, load_tokenizer(backbone)), {"good": folder})


def test_several_adapters_on_one_base_are_plain_pefts(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    folders = {name: adapter(base, tmp_path / name, target_modules=["q_proj"]) for name in ("good", "bad")}
    weights = load_file(folders["bad"] / WEIGHTS)
    save_file({k: -v for k, v in weights.items()}, folders["bad"] / WEIGHTS, metadata={"format": "pt"})
    backbone = Backbone(str(base))
    model = attach(load_policy(backbone, load_tokenizer(backbone)), folders)
    for name, folder in folders.items():
        model.set_adapter(name)
        torch.testing.assert_close(logprobs(model), logprobs(plain(base, folder)), rtol=0, atol=1e-6)
