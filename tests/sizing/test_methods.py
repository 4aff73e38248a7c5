"""What a method adds to its policy's memory: a critic, experts, adapters that take turns; and the longest sequence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MixtralConfig

from align.cli.check_cards import spreads, told_cards
from align.models.backbone import Backbone, LoRA
from align.models.value_functions import TrunkValue
from align.modules.dpo import DPOModule
from align.modules.ppo import PPOModule
from align.modules.preferred_dispreferred import PreferredDispreferredModule
from align.scoring.layouts import count_positions
from align.sizing.cards import Card, place_of
from align.sizing.fake_tensors import LiveBytes, storages
from align.sizing.groups import TypicalGroup
from align.sizing.memory import Spread
from align.sizing.pass_cost import PassConditions
from align.sizing.proposal import fragment, propose
from align.sizing.sized import Sized
from align.training.optimizer import Optimizer, OptimizerName
from benchmarks.gpu.shapes import CHECKED, Shape

GROUPS = TypicalGroup(prompt=60, response=30)
SMALL = replace(CHECKED, sizes={**CHECKED.sizes, "vocab_size": 1024, "num_hidden_layers": 2})
EXPERTS = Shape(
    MixtralConfig,
    {
        **{"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "vocab_size": 4096},
        **{"num_attention_heads": 8, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2},
    },
)


def sized(module: Any, mixed: bool = False) -> Sized:
    return Sized.of(module, GROUPS, PassConditions("auto", mixed, gpu=False), 1200)


def test_a_critic_of_its_own_is_a_second_model_with_a_head(tmp_path: Path) -> None:
    """Its head has one weight for each of 512 states, and a bias; its pass is trained and kept like the policy's.

    It is read below the language head of what it is a copy of, which stays untrained.
    """
    backbone = Backbone(SMALL.folder(tmp_path))
    own, trunk = (sized(PPOModule(backbone, value=value)) for value in (None, TrunkValue()))
    model = sum(p.numel() for p in trunk.module.model.parameters())
    assert trunk.weights.parameters == model + 513
    assert own.weights.parameters == 2 * model + 513
    assert own.weights.trained_parameters == 2 * model + 513 - trunk.module.model.lm_head.weight.numel()
    assert (own.weights.held, own.weights.trained) == (4 * own.weights.parameters, 4 * own.weights.trained_parameters)
    assert own.batch(1200).activations == pytest.approx(2 * trunk.batch(1200).activations)
    assert own.passes.total - trunk.passes.total == 3
    assert not own.whole


def test_experts_in_float32_are_counted(tmp_path: Path) -> None:
    """A real forward and backward pass afterwards, its storages counted as they come and go."""
    module = DPOModule(Backbone(EXPERTS.folder(tmp_path), random_init=True, check=False))
    plan, batch = sized(module), GROUPS.batch(10)
    expected = plan.batch(count_positions(batch, plan.cost.layout)[0])
    module.build_model()
    for parameter in module.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    live = LiveBytes(storages(module))
    with live:
        module.loss(batch, batch.totals).backward()
    assert expected.activations + expected.working == pytest.approx(live.peak, rel=0.1)


def test_what_a_method_refuses_is_not_proposed(tmp_path: Path) -> None:
    """Two adapters that take turns cannot have activations computed again; on this card nothing else would be faster."""
    module = PreferredDispreferredModule(Backbone(SMALL.folder(tmp_path), lora=LoRA(), dtype="bfloat16"))
    place = replace(place_of("1xH100"), card=Card("tight", 1.5, 10))
    fit = propose(module, GROUPS, place, longest=120, step_groups=64)
    assert "gradient_checkpointing: false" in fragment(fit, place)


def test_the_longest_sequence_is_the_last_that_fits(tmp_path: Path) -> None:
    plan = sized(DPOModule(Backbone(SMALL.folder(tmp_path))))
    card = Card("tight", 1.7, 10)
    longest = plan.longest(card, Spread())
    assert 100 < longest < plan.window == 8192
    most = longest * GROUPS.tokens / (GROUPS.prompt + GROUPS.response)
    assert plan.memory(int(most), Spread()).total <= card.usable < plan.memory(int(most) + 3, Spread()).total
    assert plan.longest(Card("wide", 1000, 10), Spread()) == plan.window
    rows = {line.split()[0]: line for line in told_cards(plan, 1200, 0.0, sharded=False)}
    assert rows["H100-80GB"].split()[-2] == str(plan.longest(Card("", 79.2, 989), Spread()))


def test_above_one_machine_a_model_may_lie_on_all() -> None:
    assert spreads(16, whole=False) == [Spread(16, 8), Spread(16, 16)]
    assert spreads(16, whole=True) == [Spread(16)]
    assert spreads(8, whole=False) == [Spread(8, 8)]


@pytest.mark.parametrize(
    ("lora", "optim"), [(LoRA(init_lora_weights="pissa"), "adamw"), (LoRA(), "adamw_8bit"), (LoRA(), "lion_8bit")]
)
def test_what_fsdp2_refuses_is_planned_whole(lora: LoRA, optim: OptimizerName, tmp_path: Path) -> None:
    optimizer = Optimizer(optim=optim, learning_rate=1e-5)
    assert sized(DPOModule(Backbone(SMALL.folder(tmp_path), lora=lora), optimizer=optimizer)).whole


def test_scales_of_4_bits_are_on_every_gpu(tmp_path: Path) -> None:
    """64 weights share one of 8 bits, and 256 of those one of 32; the packed bytes are in shards."""
    plan = sized(DPOModule(Backbone(SMALL.folder(tmp_path), lora=LoRA(), dtype="bfloat16", quantization="nf4")))
    assert not plan.whole
    width, inside = SMALL.sizes["hidden_size"], SMALL.sizes["intermediate_size"]
    keys = width * SMALL.sizes["num_key_value_heads"] // SMALL.sizes["num_attention_heads"]
    scales = SMALL.sizes["num_hidden_layers"] * (2 * width * (width + keys) + 3 * width * inside) * (1 / 64 + 1 / 4096)
    alone, shared = (plan.memory(1200, spread).weights for spread in (Spread(), Spread(8, 8)))
    assert shared == pytest.approx((alone - scales) / 8 + scales, abs=1)
