"""Frozen layers under adapters are cast to bfloat16 once, where their checkpoint was written in it: to the bit the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from align.checks.tolerance import compute_dtype
from align.cli.check import built
from align.errors import ConfigError
from align.models import held_short
from align.models.backbone import Backbone, LoRA
from align.models.description import describe
from align.models.held_short import cast_less, hold_short
from align.models.loading import load_policy
from align.models.merging import write_merged
from align.models.references import FrozenCopy, PreviousRound
from align.models.tokenizer import load_tokenizer
from align.modules.dpo import DPOModule
from align.scoring import score_responses
from align.scoring.short_linear import ShortLinear
from align.training.optimizer import Optimizer
from tests.modules.fitting import fit, pairs_data
from tests.tiny import random_batch, save_tiny, write_pairs

LORA = LoRA(r=2)
STEPS = {"precision": "bf16-mixed", "max_steps": 3, "max_epochs": -1}


class CastBytes(TorchDispatchMode):
    """Counts the bytes that casts of frozen matrices to bfloat16 write."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.frozen = {id(p) for p in model.parameters() if not p.requires_grad and p.dim() == 2}
        self.written = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ == "_to_copy" and id(args[0]) in self.frozen:
            self.written += 2 * args[0].numel()
        return func(*args, **(kwargs or {}))


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """A model whose checkpoint was written in bfloat16."""
    folder = save_tiny(tmp_path / "short", tie_word_embeddings=False)
    return rewritten(folder, lambda weight: weight.bfloat16().float())


def rewritten(folder: Path, change: Any) -> Path:
    model = load_policy(Backbone(str(folder)), load_tokenizer(Backbone(str(folder))))
    for parameter in model.parameters():
        parameter.data = change(parameter.data)
    model.save_pretrained(folder)  # type: ignore[operator]
    return folder


def policy(folder: Path, lora: LoRA | None = LORA) -> Any:
    torch.manual_seed(0)  # of the adapters' start
    backbone = Backbone(str(folder), lora=lora)
    model = load_policy(backbone, load_tokenizer(backbone), masters=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


def step(model: Any, logit_bytes: int = 2**30) -> tuple[torch.Tensor, torch.Tensor, int]:
    model.zero_grad()
    with CastBytes(model) as casts, torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        logprobs = score_responses(model, random_batch([2, 2]), logit_bytes=logit_bytes).logprobs
        logprobs.sum().backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return logprobs.detach(), gradients, casts.written


@pytest.mark.parametrize("logit_bytes", [2**30, 4096])
def test_a_step_casts_nothing_of_a_frozen_base_and_is_the_same_to_the_bit(short: Path, logit_bytes: int) -> None:
    """Every layer once a pass, and the vocabulary head: whole, and in tiles, which share one cast of its matrix."""
    model = policy(short)
    linear = sum(p.numel() for name, p in model.named_parameters() if "base_layer" in name and not p.requires_grad)
    matrix = model.get_base_model().lm_head.weight.numel()
    plain, gradient, often = step(model, logit_bytes)
    hold_short(model)
    held, own, rest = step(model, logit_bytes)
    assert torch.equal(held, plain)
    assert torch.equal(own, gradient)
    assert linear > 0
    assert often == 2 * (linear + matrix)
    assert rest == 0


def test_a_head_that_is_the_embedding_stays(tmp_path: Path) -> None:
    """Embeddings are added up in float32; a head that is one matrix with them is cast once a pass."""
    model = policy(rewritten(save_tiny(tmp_path / "tied", tie_word_embeddings=True), lambda w: w.bfloat16().float()))
    hold_short(model)
    assert model.get_base_model().lm_head.weight.dtype == torch.float32
    assert step(model)[2] == 2 * model.get_base_model().lm_head.weight.numel()


def test_a_reference_that_is_a_copy_is_held_whole_unless_it_follows(short: Path) -> None:
    backbone = Backbone(str(short))
    tokenizer = load_tokenizer(backbone)
    trained = load_policy(backbone, tokenizer, masters=True)
    copied, following = (kind.own_model(trained, backbone, tokenizer) for kind in (FrozenCopy(), PreviousRound()))
    linear = sum(part.weight.numel() for part in copied.modules() if isinstance(part, torch.nn.Linear))

    def scored() -> tuple[torch.Tensor, int]:
        with CastBytes(copied) as casts, torch.autocast("cpu", torch.bfloat16, cache_enabled=False), torch.no_grad():
            return score_responses(copied, random_batch([2, 2])).logprobs, casts.written

    plain, often = scored()
    cast_less([trained, copied, following], "bf16-mixed")
    held, rest = scored()
    assert torch.equal(held, plain)
    assert (often, rest) == (2 * linear, 0)
    assert held_in(copied) > 0
    assert held_in(following) == held_in(trained) == 0


def test_layers_under_dora_are_the_same_to_the_bit(short: Path) -> None:
    model = policy(short, LoRA(r=2, use_dora=True))
    plain, gradient, _ = step(model)
    outside = score_responses(model, random_batch([2])).logprobs
    hold_short(model)
    assert held_in(model) > 1
    held, own, _ = step(model)
    assert torch.equal(held, plain)
    assert torch.equal(own, gradient)
    assert torch.equal(score_responses(model, random_batch([2])).logprobs, outside)


def test_align_check_looks_at_the_model_as_the_run_holds_it(short: Path) -> None:
    """It has no Trainer attached, built a base in float32 where the run holds bfloat16, and passed bf16-true."""

    def told(precision: Any) -> str:
        module = DPOModule(Backbone(str(short), lora=LORA))
        trainer = Trainer(accelerator="cpu", precision=precision, logger=False)
        return describe(built(module, trainer))

    assert "frozen bfloat16 and float32" in told("bf16-mixed")
    assert "frozen float32, " in told("32-true")
    with pytest.raises(ConfigError, match="bf16-true rounds trained weights"):
        told("bf16-true")


def test_outside_autocast_checks_are_those_of_float32(short: Path) -> None:
    """Where bounds of bfloat16 are a hundred times wider, and would let a wrong layout or engine pass."""
    model = policy(short)
    hold_short(model)
    assert held_in(model) > 0
    assert compute_dtype(model) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert compute_dtype(model) == torch.bfloat16


def test_outside_autocast_it_computes_in_float32_as_before(short: Path) -> None:
    model = policy(short)
    plain = score_responses(model, random_batch([2])).logprobs
    hold_short(model)
    assert torch.equal(score_responses(model, random_batch([2])).logprobs, plain)


def held_in(model: Any) -> int:
    return sum(isinstance(part, ShortLinear) for part in model.modules())


def test_weights_that_bfloat16_would_round_stay(tmp_path: Path) -> None:
    model = policy(save_tiny(tmp_path / "wide"))
    hold_short(model)
    assert held_in(model) == 0
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", [None, "32-true", "16-mixed"])
def test_other_precisions_change_nothing(short: Path, precision: str | None) -> None:
    model = policy(short)
    cast_less([model], precision)
    assert held_in(model) == 0


def test_a_merged_model_is_that_of_float32(short: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(Backbone(str(short)))
    written = []
    for name in ("wide", "held"):
        model = policy(short)
        if name == "held":
            hold_short(model)
            assert held_in(model) > 0
        write = lambda merged, place, dtype: merged.to(dtype).save_pretrained(place)  # noqa: E731
        write_merged(model, tokenizer, tmp_path / name, write)
        written.append(load_file(tmp_path / name / "model.safetensors"))
    assert written[0].keys() == written[1].keys()
    assert all(torch.equal(written[0][key], written[1][key]) for key in written[0])


def test_runs_and_resumed_runs_end_with_the_same_weights(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps of DPO with and without it, and the last two after a checkpoint of a run with it."""
    rows = write_pairs(tmp_path / "pairs.jsonl", 12)

    def trained(name: str, start: str | None = None, steps: int = 3) -> dict[str, torch.Tensor]:
        rate = Optimizer(learning_rate=1e-2, lr_scheduler_type="constant", warmup_ratio=0.0)
        module = DPOModule(Backbone(str(short), lora=LORA), optimizer=rate)
        options = {**STEPS, "max_steps": steps, "enable_checkpointing": True, "default_root_dir": tmp_path / name}
        fit(module, pairs_data(rows), ckpt_path=start, **options)
        module.trainer.save_checkpoint(tmp_path / f"{name}.ckpt")
        assert (held_in(module.model) > 0) == (held_short.hold_short is hold_short)
        return {key: value.clone() for key, value in module.state_dict().items() if "lora" in key}

    held, half = trained("held"), str(tmp_path / "half.ckpt")
    trained("half", steps=1)
    resumed = trained("resumed", start=half)
    monkeypatch.setattr(held_short, "hold_short", lambda _: None)
    plain, again = trained("plain"), trained("again", start=half)
    assert all(torch.equal(held[key], plain[key]) and torch.equal(resumed[key], again[key]) for key in plain)
