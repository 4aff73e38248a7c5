"""Models whose weights stay in their files: the same numbers as models that are read, and no memory."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from align.models.backbone import Backbone, LoRA
from align.models.file_weights import FileWeight, weights_in_files
from align.models.loading import load_policy, load_reward_model
from align.models.references import FrozenCopy
from align.models.references.reference_cache import weights_hash
from align.models.sharding import shard
from align.models.tokenizer import load_tokenizer
from align.scoring import score_responses
from tests.tiny import random_batch, save_tiny

BATCH = random_batch([2, 3])


@pytest.fixture(params=["float32", "bfloat16"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model folder in each dtype a model may be published in."""
    path = save_tiny(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, request.param))
    model.save_pretrained(path)
    return path


def both(load: Any) -> tuple[nn.Module, nn.Module]:
    """Load twice from the same seed: read, and left in its files."""
    torch.manual_seed(1)
    read = load()
    torch.manual_seed(1)
    with weights_in_files():
        return read, load()


def same(read: nn.Module, left: nn.Module) -> None:
    expected, found = read.state_dict(), left.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name] + 0, value), name


def lying(model: nn.Module) -> list[str]:
    """Return the weights that take no memory."""
    return [name for name, p in model.named_parameters() if isinstance(p, FileWeight) and not p.own]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "auto"])
@pytest.mark.parametrize("lora", [None, LoRA(r=4)])
def test_a_policy_has_the_same_weights_and_hash(folder: Path, dtype: Any, lora: LoRA | None) -> None:
    """With adapters too, which are drawn at random in the dtype of the weights they are added to."""
    backbone = Backbone(str(folder), dtype=dtype, lora=lora)
    read, left = both(lambda: load_policy(backbone, load_tokenizer(backbone), masters=True))
    same(read, left)
    assert weights_hash(read) == weights_hash(left)
    assert [name for name, _ in read.named_parameters() if "lora_" not in name] == lying(left)


def test_a_reward_model_has_the_same_weights(folder: Path) -> None:
    """A fresh head, and an embedding with one row more, drawn from mean and covariance of the others."""
    backbone = Backbone(str(folder), dtype="bfloat16")
    read, left = both(lambda: load_reward_model(backbone, load_tokenizer(backbone), ["reward"], None, masters=True))
    same(read, left)


@pytest.mark.parametrize("start", ["pissa", True])
def test_adapters_that_read_the_base_read_its_values(folder: Path, start: Any) -> None:
    """DoRA's magnitudes are norms of weights; PiSSA takes its start out of them."""
    config = peft.LoraConfig(
        r=2,
        target_modules=["q_proj", "up_proj"],
        use_dora=start is True,
        init_lora_weights=start,
        task_type="CAUSAL_LM",
    )
    load = lambda: peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), config)  # noqa: E731
    same(*both(load))


@torch.no_grad()
def test_who_writes_gets_memory_and_copies_keep_their_values(folder: Path) -> None:
    with weights_in_files():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    names = lying(model)
    copied = copy.deepcopy(model)
    assert lying(copied) == names
    table, start = model.get_input_embeddings().weight, copied.get_input_embeddings().weight + 0
    table[3] = 7
    model.model.norm.weight.mul_(2)
    model.lm_head.weight.data = torch.zeros(2, 2)
    assert torch.equal(table[3], torch.full_like(start[3], 7))
    assert torch.equal(table[4], start[4])
    assert torch.equal(model.model.norm.weight + 0, torch.full_like(start[0], 2))
    assert type(model.lm_head.weight) is nn.Parameter
    assert model.lm_head.weight.shape == (2, 2)
    same(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), copied)
    again = copy.deepcopy(model)
    table[3] = 8
    assert torch.equal(again.get_input_embeddings().weight[3], torch.full_like(start[3], 7))


@pytest.mark.parametrize("tied", [True, False])
def test_a_sharded_policy_and_its_copy_score_as_one_that_was_read(
    folder: Path, tied: bool, mesh: DeviceMesh, tmp_path: Path
) -> None:
    if tied:
        folder = save_tiny(tmp_path / "tied", tie_word_embeddings=True)
    backbone = Backbone(str(folder))
    read, left = both(lambda: load_policy(backbone, load_tokenizer(backbone)))
    kind = FrozenCopy().build(left, backbone, None, score_responses)
    assert kind.model is not None
    assert lying(kind.model) == lying(left)
    for model in (left, kind.model):
        shard(model, mesh)
        assert all(isinstance(p, DTensor) for p in model.parameters())
    assert all(a.to_local().data_ptr() != b.to_local().data_ptr() for a, b in pairs_of(left, kind.model))
    expected = score_responses(read, BATCH).logprobs
    assert torch.equal(score_responses(left, BATCH).logprobs, expected)
    assert torch.equal(kind.score(left, BATCH).logprobs, expected)
    assert all(isinstance(p, DTensor) for p in kind.model.parameters())  # the embeddings' group too is let go again


def pairs_of(left: nn.Module, right: nn.Module) -> Any:
    return zip(left.parameters(), right.parameters(), strict=True)
