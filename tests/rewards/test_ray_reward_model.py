"""Scoring by workers: the scores and counts of the model in one process, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from align.models.reward_file import Reading
from align.records import Message
from align.rewards.ray_reward_model import RayRewardModel
from align.rewards.reward_model_scorer import RewardModelScorer
from align.rewards.scorers import FOR_WORKERS, RewardFolder
from align.workers.ray_settings import RayWorkers
from tests.tiny import WORDS, save_reward_model, tiny_tokenizer
from tests.workers.sessions import HereSession

PROMPTS = [(Message("user", " ".join(WORDS[k % len(WORDS)] for k in range(n))),) for n in range(1, 40)]
RESPONSES = [" ".join(WORDS[(3 * k + n) % len(WORDS)] for k in range(n % 7 + 1)) for n in range(1, 40)]


@pytest.mark.parametrize("reading", ["turn_end", "template"])
def test_scores_are_those_of_one_process(reading: Reading, tmp_path: Path) -> None:
    save_reward_model(tmp_path / "rm", outputs=("help", "harm"))
    folder = str(tmp_path / "rm")
    if reading == "template":
        tiny_tokenizer("{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}").save_pretrained(folder)
    alone, session = RewardModelScorer(folder, max_tokens=60, batch_tokens=100), HereSession(RayWorkers(3, gpus=0))
    spread = RayRewardModel(folder, session, max_tokens=60)
    spread.batch_tokens = alone.batch_tokens
    expected, found = alone.score(PROMPTS, RESPONSES), spread.score(PROMPTS, RESPONSES)
    assert torch.equal(found.nan_to_num(7), expected.nan_to_num(7))
    assert len(set(expected.flatten().tolist())) > 10
    assert (spread.dialogues, spread.cut, spread.unread) == (alone.dialogues, alone.cut, alone.unread)
    assert alone.cut + alone.unread
    assert alone.reading == spread.reading == reading
    assert spread.note() == alone.note()
    assert session.runs == 1
    assert not list(spread.model.parameters())  # the weights lie with the workers
    assert spread.score([], []).shape == expected[:0].shape


def test_a_folder_with_workers_is_asked_by_one_process_for_many_samples(tmp_path: Path) -> None:
    """The number is of the same model: a run may go on with workers, or without."""
    folder = str(save_reward_model(tmp_path / "rm"))
    alone, spread = RewardFolder(folder), RewardFolder(folder, ray=RayWorkers(2, gpus=0))
    assert alone.identity == spread.identity
    assert (alone.shares, alone.together) == (True, 256)
    assert (spread.shares, spread.together) == (False, FOR_WORKERS)
    assert isinstance(spread.oracle, RayRewardModel)
