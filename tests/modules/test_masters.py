"""Sixteen-bit weights: the share that fifty DPO steps move, the dtype of each part, and what an export is written in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from align.errors import ConfigError
from align.models.backbone import Backbone, LoRA
from align.models.description import describe
from align.models.loading import load_policy
from align.models.masters import check_precision
from align.models.model_export import export_model
from align.models.tokenizer import load_tokenizer
from align.modules.dpo import DPOModule
from align.modules.reward_model import RewardModel
from align.training.base_module import AlignModule
from align.training.optimizer import Optimizer
from tests.modules.fitting import fit, pairs_data
from tests.tiny import save_tiny, write_pairs

KAHAN = Optimizer(learning_rate=5e-7, kahan=True, adam_beta2=0.99)


def save_short(folder: Path, **options: Any) -> Path:
    save_tiny(folder, **options)
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def trained(module: AlignModule, path: Path, steps: int = 50, **options: Any) -> tuple[dict, dict]:
    """Return the weights before and after so many steps."""
    pairs = write_pairs(path, 4 * steps)
    module.build_model()
    before = {name: p.detach().clone() for name, p in module.model.named_parameters()}
    fit(module, pairs_data(pairs), **options)
    return before, dict(module.model.named_parameters())


def share(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> float:
    moved = sum(int((before[name] != p.detach()).sum()) for name, p in after.items())
    return moved / sum(p.numel() for p in after.values())


@pytest.mark.parametrize(
    "dtype", ["bfloat16", *(pytest.param(d, marks=pytest.mark.slow) for d in ("float16", "auto", "float32"))]
)
def test_masters_move(tmp_path: Path, dtype: str) -> None:
    """In float32 all that has a gradient moves: 90 % of a tiny model, whose batches do not hold every token."""
    module = DPOModule(Backbone(str(save_short(tmp_path / "base")), dtype=dtype))
    before, after = trained(module, tmp_path / "pairs.jsonl")
    assert {p.dtype for p in after.values()} == {torch.float32}
    blocks = {name: p for name, p in after.items() if "embed" not in name}
    assert share(before, blocks) > 0.99


def test_what_masters_are_for(tmp_path: Path) -> None:
    """Plain AdamW on the same weights in 16 bits: next to nothing moves (measured: under 5 %)."""
    module = DPOModule(Backbone(str(save_short(tmp_path / "base")), dtype="bfloat16"))
    module.build_model()
    module.model.bfloat16()
    before, after = trained(module, tmp_path / "pairs.jsonl")
    assert share(before, after) < 0.05


def test_kahan_keeps_what_rounding_cuts_off(tmp_path: Path) -> None:
    """Weights stay in 16 bits; weight and compensation together have moved like float32's masters."""
    module = DPOModule(Backbone(str(save_short(tmp_path / "base")), dtype="bfloat16"), optimizer=KAHAN)
    before, after = trained(module, tmp_path / "pairs.jsonl")
    assert {p.dtype for p in after.values()} == {torch.bfloat16}
    optimizer = module.optimizers().optimizer
    blocks = {name: p for name, p in after.items() if "embed" not in name}
    moved = sum(int((optimizer.state[p]["kahan_comp"].ne(0) | (p != before[name])).sum()) for name, p in blocks.items())
    assert moved / sum(p.numel() for p in blocks.values()) > 0.9


def test_kahan_follows_float32_where_sixteen_bits_stand_still() -> None:
    """2000 steps of a constant gradient at 5e-7 move a weight by 1e-3, sixteen times bfloat16's spacing at .01."""
    ends = {}
    for name, dtype, kahan in (
        ("wide", torch.float32, False),
        ("short", torch.bfloat16, False),
        ("kahan", torch.bfloat16, True),
    ):
        weight = torch.nn.Parameter(torch.full((8,), 0.01, dtype=dtype))
        settings = Optimizer(
            learning_rate=5e-7, adam_beta2=0.99, kahan=kahan, lr_scheduler_type="constant", warmup_ratio=0
        )
        built = settings.build([weight], 1.0, 2000, fused=False)["optimizer"]
        for _ in range(2000):
            weight.grad = torch.ones_like(weight)
            built.step()
        ends[name] = weight.detach().float()
    spacing = 2.0**-14
    assert (ends["wide"] - 0.009).abs().max() < 1e-5
    assert (ends["kahan"] - ends["wide"]).abs().max() <= spacing
    assert (ends["short"] - 0.01).abs().max() < spacing


class TestDtypes:
    def test_lora_leaves_its_base_as_it_is(self, tmp_path: Path) -> None:
        module = DPOModule(Backbone(str(save_short(tmp_path / "base")), dtype="bfloat16", lora=LoRA(r=2)))
        before, after = trained(module, tmp_path / "pairs.jsonl", steps=3)
        kinds = {(p.requires_grad, p.dtype) for p in after.values()}
        assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
        assert "trained float32, frozen bfloat16" in describe(module.model)
        assert share(before, {k: p for k, p in after.items() if "lora_B" in k}) > 0.9

    def test_copies_of_layers_are_trained_on_a_base_in_float32(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As where an adapter folder that has some is gone on with; the scores are a float32 model's of the folder."""
        base = save_short(tmp_path / "base")
        backbone = Backbone(str(base), dtype="bfloat16", lora=LoRA(r=2, modules_to_save=["lm_head"]))
        model = load_policy(backbone, tokenizer := load_tokenizer(backbone), masters=True)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        row = torch.tensor([[5, 9, 30, 7]])
        expected = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)(input_ids=row).logits
        torch.testing.assert_close(model(input_ids=row).logits, expected)
        with caplog.at_level("INFO"):
            check_precision(model, backbone, "bf16-mixed", kahan=False)
        assert (
            "float32, and so are adapters and copies of layers in exports, bfloat16 is for merged ones" in caplog.text
        )
        for merge, name, dtype in ((False, "adapter_model", torch.float32), (True, "model", torch.bfloat16)):
            export_model(model, tokenizer, tmp_path / name, merge=merge)
            assert {w.dtype for w in load_file(tmp_path / name / f"{name}.safetensors").values()} == {dtype}

    @pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
    def test_a_sixteen_bit_base_computes_in_sixteen_bits(self, tmp_path: Path, precision: str) -> None:
        module = DPOModule(Backbone(str(save_short(tmp_path / "base")), dtype="bfloat16", lora=LoRA(r=2)))
        module.build_model()
        seen = set()
        layer = module.model.get_base_model().model.layers[0]
        layer.register_forward_hook(lambda _, inputs, output: seen.add(inputs[0].dtype))
        fit(module, pairs_data(write_pairs(tmp_path / "p.jsonl", 4)), precision=precision)
        assert seen == {torch.bfloat16}

    @pytest.mark.parametrize("lora", [None, LoRA(r=2)])
    def test_a_reward_head_is_trained_in_float32(self, tmp_path: Path, lora: LoRA | None) -> None:
        module = RewardModel(Backbone(str(save_short(tmp_path / "base")), dtype="bfloat16", lora=lora))
        trained(module, tmp_path / "pairs.jsonl", steps=2)
        assert {p.dtype for p in module.model.parameters() if p.requires_grad} == {torch.float32}
        frozen = {p.dtype for p in module.model.parameters() if not p.requires_grad}
        assert frozen <= ({torch.bfloat16} if lora else set())

    @pytest.mark.parametrize(("dtype", "written"), [("bfloat16", "BF16"), ("auto", "BF16"), ("float32", "F32")])
    def test_an_export_has_the_dtype_that_was_asked_for(self, tmp_path: Path, dtype: str, written: str) -> None:
        module = DPOModule(Backbone(str(save_short(tmp_path / "base")), dtype=dtype))
        _, after = trained(module, tmp_path / "pairs.jsonl", steps=1)
        module.export(tmp_path / "out")
        weights = load_file(tmp_path / "out" / "model.safetensors")
        expected = torch.bfloat16 if written == "BF16" else torch.float32
        assert {w.dtype for w in weights.values()} == {expected}
        opened = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
        assert {p.dtype for p in opened.parameters()} == {expected}
        for name, parameter in opened.named_parameters():
            assert torch.equal(parameter, after[name].to(expected))
        assert ("trained, or merged, in float32" in (tmp_path / "out" / "README.md").read_text()) == (written == "BF16")


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
@pytest.mark.parametrize("lora", [None, LoRA(r=2)])
def test_true_half_precision_is_refused(
    model_folder: Path, pairs_file: Path, precision: str, lora: LoRA | None
) -> None:
    module = DPOModule(Backbone(str(model_folder), lora=lora))
    with pytest.raises(ConfigError, match=rf"trainer\.precision {precision} rounds trained weights to 16 bits"):
        fit(module, pairs_data(pairs_file), precision=precision)


def test_kahan_where_it_does_nothing_is_refused(model_folder: Path, pairs_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.kahan is for 16-bit weights"):
        fit(DPOModule(Backbone(str(model_folder)), optimizer=KAHAN), pairs_data(pairs_file))
    with pytest.raises(ConfigError, match=r"adam_beta2 must be at most 0\.99 with optimizer\.kahan"):
        Optimizer(kahan=True)
