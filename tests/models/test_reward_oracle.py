"""A reward model folder as an oracle: the numbers of training, in any order and batch size; other folders are refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from align.data.source import Report
from align.errors import ConfigError, ModelError
from align.models.backbone import Backbone, LoRA
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.objectives.regression import Regression
from align.oracles.reward import RewardOracle
from align.records import Message
from tests.data.test_labels import BOTH
from tests.models.test_reference import disturb
from tests.modules.fitting import fit, pairs_data
from tests.modules.rated import rated_data
from tests.tiny import WORDS, save_reward_model


@pytest.mark.parametrize("lora", [None, LoRA(r=2)])
def test_scores_are_those_of_the_module(lora: LoRA | None, model_folder: Path, tmp_path: Path) -> None:
    module = RewardModel(Backbone(str(model_folder), lora=lora), Regression(lm_weight=0))
    data = rated_data(tmp_path, groups=100)
    fit(module, data, limit_train_batches=1)
    disturb(module.model)
    module.export(tmp_path / "rm")
    examples = [(e, kind) for kind, source in enumerate(data.sources) for e in source.read("train", Report())]
    rows = [(e.messages, r, (f"{e.id}#{n}", kind)) for e, kind in examples for n, r in enumerate(e.responses)]
    (batch,) = data.train_dataloader()
    with torch.no_grad(), module.evaluating():
        kinds = batch.scores[:, 0].isnan().int().tolist()  # ids are row numbers of either file
        expected = dict(zip(zip(batch.ids, kinds, strict=True), module.points(batch), strict=True))
    for tokens in (1, 300, 10_000):
        oracle = RewardOracle(str(tmp_path / "rm"), batch_tokens=tokens)
        found = oracle.score([m for m, _, _ in rows], [r for _, r, _ in rows])
        torch.testing.assert_close(found, torch.stack([expected[n] for _, _, n in rows]), rtol=1e-4, atol=1e-4)
    assert oracle.attributes == BOTH
    two = RewardOracle(str(tmp_path / "rm"), attributes=["uf-honesty", "hs-verbosity"])
    torch.testing.assert_close(two.score([rows[0][0]], [rows[0][1]]), found[:1, [8, 4]])
    assert two.score([], []).shape == (0, 2)
    with pytest.raises(ModelError, match=r"rm: a reward model with 10 outputs \(hs-help.*\), expected humour too"):
        RewardOracle(str(tmp_path / "rm"), attributes=["humour"])


def test_a_model_of_rankings_has_one_output(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    module = RewardModel(Backbone(str(model_folder)))
    fit(module, pairs_data(pairs_file), limit_train_batches=1)
    module.export(tmp_path / "rm")
    oracle = RewardOracle(str(tmp_path / "rm"))
    assert oracle.attributes == ("reward",)
    scores = oracle.score([[Message("user", w)] for w in WORDS[:3]], ["a", "x" * 600, "b"])
    assert scores.isnan()[:, 0].tolist() == [False, True, False]  # the second is longer than the context


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_told(value: float, tmp_path: Path) -> None:
    oracle = RewardOracle(str(save_reward_model(tmp_path / "rm")))
    with torch.no_grad():
        oracle.model.score.weight.fill_(value)
    with pytest.raises(ModelError, match=r"rm: reward is (nan|-?inf) for a response to 'the cat'"):
        oracle.score([[Message("user", "the cat")]], ["sat"])


def test_other_folders_are_refused(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="LlamaForCausalLM has no reward head"):
        RewardOracle(str(model_folder))
    policy = SFTModule(Backbone(str(model_folder), lora=LoRA(r=2)))
    policy.build_model()
    policy.export(tmp_path / "adapter")
    with pytest.raises(ModelError, match="an adapter for CAUSAL_LM, expected a reward model"):
        RewardOracle(str(tmp_path / "adapter"))
    with pytest.raises(ConfigError, match="batch_tokens must be at least 1"):
        RewardOracle(str(model_folder), batch_tokens=0)
