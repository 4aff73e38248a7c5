"""Sampling: batches equal single prompts, seeds reproduce, ends are ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.models.tokenizer import load_tokenizer
from align.sampling.generation import Generation, Sample, _finish, sample
from tests.tiny import tiny_tokenizer

PROMPTS = [[0, 40, 41, 42, 43], [0, 50], [0, 60, 61, 62, 63, 64, 65, 66]]
GREEDY = Generation(max_new_tokens=6, temperature=0)


@pytest.fixture
def model(model_folder: Path):
    backbone = Backbone(str(model_folder))
    return load_policy(backbone, load_tokenizer(backbone)).eval()


def drawn(model, prompts=PROMPTS, settings=GREEDY, **options) -> list[Sample]:
    return sample(model, tiny_tokenizer(), prompts, settings, eos_ids=[1], **options)


def test_greedy_batches_equal_single_prompts_and_plain_generate(model) -> None:
    together = drawn(model)
    alone = [drawn(model, [p])[0].ids for p in PROMPTS]
    assert [s.ids for s in together] == alone
    assert [s.prompt for s in together] == [0, 1, 2]
    for prompt, ids in zip(PROMPTS, alone, strict=True):
        plain = model.generate(
            torch.tensor([prompt]), max_new_tokens=6, do_sample=False, eos_token_id=1, pad_token_id=1
        )
        assert plain[0, len(prompt) :].tolist()[: len(ids)] == ids


def test_seeds_reproduce_and_leave_the_global_stream(model) -> None:
    settings = Generation(max_new_tokens=6, num_samples=3)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, second = drawn(model, settings=settings), drawn(model, settings=settings)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == second
    assert first != drawn(model, settings=Generation(max_new_tokens=6, num_samples=3, seed=1))
    assert [s.prompt for s in first] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_ends_stops_and_progress(model) -> None:
    told = []
    drawn(model, progress=told.append)
    assert sum(told) == 3
    tokenizer = tiny_tokenizer()
    ids = tokenizer("hello\n\nHuman: more", add_special_tokens=False)["input_ids"]
    ended = _finish(tokenizer, 0, [*ids[:5], 1, 1, 1], [1], [])
    assert (ended.ids, ended.text, ended.finished) == ([*ids[:5], 1], "hello", True)
    stopped = _finish(tokenizer, 0, ids, [1], ["\n\nHuman:"])
    assert (stopped.text, stopped.finished) == ("hello", True)
    assert not _finish(tokenizer, 0, ids, [1], []).finished


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 0},
        {"num_samples": 0},
        {"temperature": -1},
        {"top_p": 0},
        {"temperature": 0, "num_samples": 2},
    ],
)
def test_settings_out_of_range(settings: dict) -> None:
    with pytest.raises(ConfigError):
        Generation(**settings)
