"""Models with trained tensors that no loss reaches: two processes do not wait for them, and train as one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from safetensors.torch import load_file
from torch import nn

from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.training.unreached import unreached, wait_for_reached
from tests.architectures.shrunk import Variant, random_model
from tests.processes.runs import STRATEGIES, Pair, command
from tests.resume.runs import Run
from tests.test_configs import scalars
from tests.tiny import tiny_model, tiny_tokenizer

FIND = "find_unused_parameters"
BIASES = [f"layers.{n}.mlp.expert_bias" for n in (1, 2, 3)]
"""They choose experts, by places that have no gradient; transformers trains them after it has read them from a folder."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = tiny_tokenizer()
    model = random_model(Variant("afmoe"), vocab_size=len(tokenizer), max_position_embeddings=512)
    model.save_pretrained(tmp_path / "afmoe")
    tokenizer.save_pretrained(tmp_path / "afmoe")
    return tmp_path / "afmoe"


def test_ddp_looks_for_what_is_reached_where_not_all_is(folder: Path) -> None:
    model = load_policy(Backbone(str(folder)), tiny_tokenizer())
    assert unreached(model) == BIASES
    assert unreached(tiny_model()) == []
    cases: list[tuple[list[nn.Module], dict[str, Any], dict[str, bool]]] = [
        ([tiny_model()], {}, {}),
        ([tiny_model(), model], {}, {FIND: True}),
        ([model], {FIND: False}, {FIND: False}),
        ([model], {"static_graph": True}, {"static_graph": True}),
    ]
    for models, asked, found in cases:
        strategy = DDPStrategy(**asked)
        wait_for_reached(strategy, models)
        assert strategy._ddp_kwargs == found


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_train_as_one(strategy: str, folder: Path, tmp_path: Path, pairs_file: Path) -> None:
    """Rows in micro-batches; the tensors that are not reached stay, also under weight decay."""
    more = ["--data.batching.tokens", "160", "--model.optimizer.weight_decay", "0.1", "--trainer.max_steps", "3"]
    one = Run(tmp_path / "one", command("sft", pairs_file, folder, *more))
    assert one() == 0, one.log
    two = Pair(tmp_path / "two", command("sft", pairs_file, folder, *more, strategy=strategy))
    assert two() == 0, two.log
    for name in ("train/loss", "train/grad_norm"):
        assert scalars(two.root, name) == pytest.approx(scalars(one.root, name), rel=1e-4), name
    expected, found = (load_file(run.root / "model" / "model.safetensors") for run in (one, two))
    start = load_file(folder / "model.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-5, msg=name)
        assert torch.equal(found[name], start[name]) == name.endswith("expert_bias"), name
