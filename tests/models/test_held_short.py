"""Frozen layers under adapters are cast to bfloat16 once, where their checkpoint was written in it: to the bit the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from align.models import held_short
from align.models.backbone import Backbone, LoRA
from align.models.held_short import ShortLinear, cast_less, hold_short
from align.models.loading import load_policy
from align.models.merging import write_merged
from align.models.tokenizer import load_tokenizer
from align.modules.dpo import DPOModule
from align.scoring import score_responses
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


def policy(folder: Path) -> Any:
    torch.manual_seed(0)  # of the adapters' start
    backbone = Backbone(str(folder), lora=LORA)
    model = load_policy(backbone, load_tokenizer(backbone), masters=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


def step(model: Any) -> tuple[torch.Tensor, torch.Tensor, int]:
    model.zero_grad()
    with CastBytes(model) as casts, torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        logprobs = score_responses(model, random_batch([2, 2])).logprobs
        logprobs.sum().backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return logprobs.detach(), gradients, casts.written


def test_a_step_casts_nothing_under_adapters_and_is_the_same_to_the_bit(short: Path) -> None:
    model = policy(short)
    linear = sum(p.numel() for name, p in model.named_parameters() if "base_layer" in name and not p.requires_grad)
    plain, gradient, often = step(model)
    hold_short(model)
    held, own, rest = step(model)
    assert torch.equal(held, plain)
    assert torch.equal(own, gradient)
    assert linear > 0
    assert often - rest == 2 * linear  # every layer once a pass; what is left is the vocabulary head
    assert rest == 2 * model.get_base_model().lm_head.weight.numel()


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
    cast_less(model, precision)
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
