"""Reward and judge evaluation while training: at each validation, once per step, without touching the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from align.callbacks.evaluation import JudgeEvaluation, RewardEvaluation
from align.callbacks.response_evaluation import in_turns
from align.data.splits import Splits
from align.errors import ConfigError
from align.evaluation.completions import EvaluatedCompletion, EvaluationPrompt
from align.judges.preference import GoldJudge, RewardJudge
from align.models.backbone import Backbone
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.records import Example, Message
from align.sampling.generation import Generation
from tests.modules.fitting import fit, pairs_data
from tests.tiny import save_reward_model

SHORT = Generation(max_new_tokens=4, temperature=0.0)


def lines(name: str) -> list[dict]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_rewards_are_logged_and_weights_stay(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    folder = str(save_reward_model(tmp_path / "rm"))
    weights = []
    for callbacks in ([], [RewardEvaluation({"rm": folder}, 5, SHORT, temperatures=[0.5, 1.0], kl=True)]):
        module = SFTModule(Backbone(str(model_folder)))
        logger = TensorBoardLogger("log", name="", version=str(len(callbacks)))
        root = tmp_path / f"run{len(callbacks)}"
        data = pairs_data(pairs_file, splits=Splits(0.2))
        fit(module, data, logger=logger, callbacks=callbacks, default_root_dir=root)
        weights.append([p.detach().clone() for p in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    found = lines(str(tmp_path / "run1/rewards.jsonl"))
    assert found[0]["step"] == 0
    assert len({row["step"] for row in found}) == len(found) >= 2
    assert {"rm", "rm/sigmoid", "text/mean_words", "text/refusal_rate", "text/finished"} <= set(found[0])
    assert {"t0.5/rm", "t1/rm", "t1/text/mean_words", "t1/kl"} <= set(found[0])
    assert "t0.5/kl" not in found[0]
    assert found[0]["t1/kl"] == pytest.approx(0, abs=1e-5)  # the policy is still the one the run starts from
    assert abs(found[-1]["t1/kl"]) > 1e-4
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("log/1")
    events.Reload()
    assert [e.value for e in events.Scalars("rewards/rm")] == pytest.approx([row["rm"] for row in found])
    assert "rewards/samples/text_summary" in events.Tags()["tensors"]


def test_judge_against_the_chosen_responses(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    callback = JudgeEvaluation(RewardJudge(str(save_reward_model(tmp_path / "rm"))), 5, SHORT)
    data = pairs_data(pairs_file, splits=Splits(0.2))
    fit(SFTModule(Backbone(str(model_folder))), data, callbacks=[callback], default_root_dir=tmp_path / "run")
    for row in lines(str(tmp_path / "run/judge.jsonl")):
        assert row["win"] + row["tie"] + row["lose"] == pytest.approx(1)
        assert row["win_rate_low"] <= row["win_rate"] <= row["win_rate_high"]
        assert row["invalid"] == 0


def test_no_prompts_and_no_policy_are_errors(model_folder: Path, pairs_file: Path) -> None:
    with pytest.raises(ConfigError, match="needs a validation split"):
        fit(
            SFTModule(Backbone(str(model_folder))),
            pairs_data(pairs_file, splits=Splits(0.0)),
            callbacks=[JudgeEvaluation(GoldJudge(), 5, SHORT)],
        )
    with pytest.raises(ConfigError, match="RewardEvaluation samples from a policy, RewardModel has none"):
        fit(
            RewardModel(Backbone(str(model_folder))),
            pairs_data(pairs_file),
            callbacks=[RewardEvaluation({}, 5, SHORT, temperatures=[1.0], kl=True)],
        )


@pytest.mark.parametrize(
    "settings",
    [{"temperatures": [0.0]}, {"temperatures": [float("nan")]}, {"kl": True}, {"kl": True, "temperatures": [0.7]}],
)
def test_settings_that_cannot_be_measured(settings: dict) -> None:
    with pytest.raises(ConfigError, match="RewardEvaluation"):
        RewardEvaluation({}, 5, SHORT, **settings)


def test_sources_take_turns_and_are_measured_apart(tmp_path: Path) -> None:
    """PRO's tables have rewards and BLEU by subset; files of subsets stand in a row, the first rows are of one only."""
    rows = [Example(str(n), (Message("user", f"q{n}"),), ("yes",), source="ab"[n > 2]) for n in range(6)]
    assert [e.id for e in in_turns(rows, 4)] == ["0", "3", "1", "4"]
    assert [e.id for e in in_turns(rows[:4], 9)] == ["0", "3", "1", "2"]
    prompts = [EvaluationPrompt.of(example, example.source) for example in rows]
    said = [EvaluatedCompletion(n, f"yes {n}" if n > 2 else "yes", [1], True) for n in range(6)]
    callback = RewardEvaluation({"eval": str(save_reward_model(tmp_path / "rm"))}, 6, SHORT)
    found = callback.measure(prompts, said)
    assert found["eval"] == pytest.approx((found["eval/a"] + found["eval/b"]) / 2)
    assert found["text/a/bleu_characters_pro"] > found["text/bleu_characters_pro"] > found["text/b/bleu_characters_pro"]
