"""Drawing by workers, in this process and from a folder: the tokens of our engine, their log-probabilities, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from align.errors import ModelError
from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.models.tokenizer import load_tokenizer
from align.sampling.checked import LocalEngine
from align.sampling.decoding_rows import telling
from align.sampling.engine_difference import EngineDifference
from align.sampling.generation import Generation, Request, Sample
from align.sampling.ray_engine import RayEngine
from align.sampling.sampler import Sampler
from align.sampling.transformers_generate import GenerateEngine
from align.workers.ray_settings import RayWorkers
from tests.rounds.test_pool_engine import Policy
from tests.tiny import tiny_model, tiny_tokenizer
from tests.workers.sessions import HereSession

SETTINGS = Generation(max_new_tokens=6, num_samples=4, seed=3, batch_tokens=60)
ASKED = [Request(name, [1, *range(10, 10 + n)]) for name, n in (("a", 3), ("b", 9), ("c", 5), ("d", 5), ("e", 2))]

ENDS = [1, *range(5, 60, 7)]
"""Tokens that end a sample, so that some end early."""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return Policy(tmp_path)


def engine(policy: Policy, settings: Generation, most: float = 0.2, **told: Any) -> RayEngine:
    found = RayEngine(
        told.pop("session", None) or HereSession(),
        [policy.tokenizer.eos_token_id],
        (),
        write=lambda: Backbone(str(policy.folder), **told),
        difference=EngineDifference(
            told.pop("model", policy.model), settings, most, backbone=Backbone("here"), setting="ray"
        ),
    )
    found.ready()
    return found


def own(policy: Policy, settings: Generation) -> list[Sample]:
    """Return what our engine draws in this process from the same folder."""
    backbone = Backbone(str(policy.folder))
    model = load_policy(backbone, load_tokenizer(backbone)).eval()
    drawing = LocalEngine(model, policy.tokenizer, [policy.tokenizer.eos_token_id])
    return Sampler(drawing, settings, round_number=2).sample(ASKED)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("change", [{}, {"temperature": 0.7}, {"top_p": 0.8}, {"temperature": 0.0, "num_samples": 1}])
def test_tokens_are_those_of_our_engine_whoever_draws(policy: Policy, workers: int, change: dict[str, Any]) -> None:
    """Batches come back in another order, from one worker or several; the log-probabilities are ours to rounding."""
    settings = replace(SETTINGS, **change)
    drawing = engine(policy, settings, session=HereSession(RayWorkers(workers, gpus=0)))
    found = Sampler(drawing, settings, round_number=2).sample(ASKED)
    assert [sample._replace(logprobs=None) for sample in found] == own(policy, settings)
    assert all(len(sample.logprobs or ()) == len(sample.ids) for sample in found)
    assert len({tuple(sample.ids) for sample in found}) > 1
    assert drawing.measured()["engine_difference_max"] < 1e-4


def test_a_folder_of_other_weights_is_refused(policy: Policy, tmp_path: Path) -> None:
    """A worker whose disk holds another adapter under the path is found by what it tells."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=1.5)
    with pytest.raises(ModelError, match=r"a Ray worker draws with log-probabilities .* ray\.most_difference is 0\.01"):
        Sampler(engine(policy, SETTINGS, most=0.01), SETTINGS).sample(ASKED)


@pytest.mark.parametrize("made", [LocalEngine, GenerateEngine])
@pytest.mark.parametrize("change", [{}, {"temperature": 0.5}, {"top_p": 0.7}, {"temperature": 0.0, "num_samples": 1}])
def test_told_log_probabilities_are_those_of_a_plain_forward_pass(made: Any, change: dict[str, Any]) -> None:
    """At the temperature of drawing, at 1 where top_p cuts or nothing is drawn; rows that ended early are dropped."""
    model, settings = tiny_model(dtype=torch.float64), Generation(max_new_tokens=9, num_samples=5, seed=1)
    settings = replace(settings, **change)
    asked = [Request.of_ids([0, 40, 41, 42]), Request.of_ids([0, 50])]
    with telling():
        found = Sampler(made(model, tiny_tokenizer(), ENDS), settings).sample(asked)
    at = settings.temperature if settings.temperature and settings.top_p == 1 else 1.0
    for sample in found:
        prompt = list(asked[sample.prompt].ids)
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *sample.ids]])).logits[0, len(prompt) - 1 : -1]
        plain = (logits / at).log_softmax(-1)[range(len(sample.ids)), sample.ids]
        assert sample.logprobs == pytest.approx(plain.tolist(), abs=1e-5)
    assert settings.temperature == 0 or len({len(sample.ids) for sample in found}) > 1
    without = Sampler(made(model, tiny_tokenizer(), ENDS), settings).sample(asked)
    assert without == [sample._replace(logprobs=None) for sample in found]
