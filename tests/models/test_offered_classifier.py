"""Reward models of types that transformers has no sequence classifier of: read at the last token as its own are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from align.cli.main import main
from align.models.backbone import Backbone
from align.models.loading import load_reward_model
from align.models.tokenizer import load_tokenizer
from align.records import Message
from align.rewards.scorers import RewardModelScorer
from tests.architectures.shrunk import Variant, random_model
from tests.test_configs import CPU
from tests.tiny import tiny_tokenizer

PAD = 7
"""What the configurations pad with, and the tokenizer does not."""
IDS = torch.tensor([[5, 40, 41, 42, 43, PAD]])


def saved(kind: str, folder: Path) -> Any:
    tokenizer = tiny_tokenizer()
    model = random_model(Variant(kind), vocab_size=len(tokenizer), max_position_embeddings=512, pad_token_id=PAD)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["granite", "gemma4_text", "gemma4", "olmoe", "lfm2", "cohere2", "llama4_text"])
@torch.no_grad()
def test_the_score_is_the_head_at_the_last_state(kind: str, tmp_path: Path) -> None:
    causal = saved(kind, tmp_path)
    backbone = Backbone(str(tmp_path))
    model: Any = load_reward_model(backbone, load_tokenizer(backbone), ["reward"], "<pad>").eval()
    last = causal.model(input_ids=IDS, use_cache=False).last_hidden_state[0, -1]
    torch.testing.assert_close(model(input_ids=IDS, use_cache=False).logits[0], model.score.weight @ last)


@pytest.mark.parametrize("lora", [False, True])
def test_a_folder_opens_by_the_lines_of_its_card(
    lora: bool, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("granite", tmp_path / "base")
    given = [
        "fit",
        "-c",
        "reward_model",
        "-c",
        CPU,
        "--data",
        "PreferenceFileDataModule",
        "--data.path",
        str(pairs_file),
    ]
    given += [
        "--model.backbone.path",
        str(tmp_path / "base"),
        "--trainer.max_steps",
        "2",
        "--data.batching.groups",
        "8",
    ]
    given += ["--model.backbone.lora.r", "2"] * lora
    assert (
        main([*given, "--trainer.default_root_dir", str(tmp_path / "run"), "--model.optimizer.learning_rate", "0.01"])
        == 0
    )
    folder = tmp_path / "run" / "model"
    monkeypatch.chdir(folder)
    (lines,) = re.findall(
        r"## Opening it without align.*?```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL
    )
    names: dict[str, Any] = {"__name__": "elsewhere"}
    exec(compile(lines, "README.md", "exec"), names)
    backbone = Backbone(str(folder))
    own = load_reward_model(backbone, load_tokenizer(backbone), ["reward"], "<pad>").eval()
    with torch.no_grad():
        theirs = names["model"].eval()(input_ids=IDS).logits
        torch.testing.assert_close(theirs, own(input_ids=IDS).logits, rtol=1e-5, atol=1e-6)
    scores = RewardModelScorer(str(folder)).score([[Message("user", "Where?")]] * 2, ["On the mat.", "No."])
    assert scores[0] != scores[1]
