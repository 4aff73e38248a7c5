"""An engine that is a pool of servers, against a stand-in of vLLM's API: what is asked, what is given over, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.errors import ConfigError, ModelError, Paused
from align.models.backbone import Backbone
from align.sampling.engine_difference import EngineDifference
from align.sampling.generation import Generation, Request, sample_key
from align.sampling.policy_server import ServedPolicy
from align.sampling.pool_engine import PoolEngine
from align.sampling.pool_servers import PoolServers
from align.sampling.sampler import Sampler
from align.sampling.server_pool import ServerPool
from align.sampling.stopping_criteria import StopCriteria
from tests.rounds.runs import save_world_model
from tests.sampling.vllm_server import Served, vllm_serve

SETTINGS = Generation(max_new_tokens=5, num_samples=4, temperature=1.0, seed=3)
ASKED = [Request(name, [1, *range(10, 10 + length)]) for name, length in (("a", 3), ("b", 9), ("c", 5))]


class Policy:
    """A base and a LoRA adapter far from zero, as a run has them."""

    def __init__(self, folder: Path) -> None:
        self.base = save_world_model(folder / "base")
        torch.manual_seed(1)
        plain = AutoModelForCausalLM.from_pretrained(self.base)
        self.model: Any = peft.get_peft_model(
            plain, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"])
        )
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.5)
        self.folder = folder / "adapter"
        self.model.save_pretrained(self.folder)
        self.tokenizer = AutoTokenizer.from_pretrained(self.base)

    def engine(self, *urls: str, settings: Generation = SETTINGS, **given: Any) -> PoolEngine:
        on_tokens, adapted = given.pop("on_tokens", True), given.pop("adapted", True)
        corrected = given.pop("corrected", on_tokens)
        name, ahead = given.pop("name", "align-run-one"), given.pop("ahead", False)
        pool = ServerPool(list(urls), **{"patience": 0.4, "concurrency": 4, **given})
        return PoolEngine(
            PoolServers(pool, adapted=adapted, on_tokens=on_tokens, corrected=corrected),
            StopCriteria(self.tokenizer, [self.tokenizer.eos_token_id]),
            settings,
            write=lambda whole: ServedPolicy(name, self.folder, "align-run-"),
            difference=EngineDifference(self.model, settings, pool.most_difference, backbone=Backbone("here")),
            ahead=ahead,
        )


def drawn(engine: PoolEngine) -> list[Any]:
    engine.ready()
    return Sampler(engine, engine.settings, round_number=2).sample(ASKED)


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return Policy(tmp_path)


@contextmanager
def serving(policy: Policy, tmp_path: Path, *faults: dict[str, Any]) -> Iterator[list[Served]]:
    with ExitStack() as stack:
        yield [stack.enter_context(vllm_serve(policy.base, tmp_path, **fault)) for fault in faults]


def test_each_sample_is_drawn_from_the_adapter_with_its_seed(policy: Policy, tmp_path: Path) -> None:
    """The expected log-probabilities are those of a plain forward pass of PEFT."""
    with serving(policy, tmp_path, {}, {}) as servers:
        engine = policy.engine(*(server.url for server in servers))
        samples = drawn(engine)
        asked = [row for server in servers for row in server.asked("completions")]
        assert all(server.asked("completions") for server in servers)
    assert [(s.prompt, s.number) for s in samples] == [(p, n) for p in range(3) for n in range(4)]
    seeds = {sample_key(3, 2, name, n) % 2**31 for name in "abc" for n in range(4)}
    assert {row["seed"] for row in asked} == seeds
    assert len(asked) == len(seeds) == 12
    for sample in samples:
        prompt = list(ASKED[sample.prompt].ids)
        with torch.no_grad():
            logits = policy.model(torch.tensor([[*prompt, *sample.ids]])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(sample.ids)[:, None])[:, 0]
        assert sample.logprobs == pytest.approx(expected.tolist(), abs=1e-5)
        assert (sample.finish == "eos") == (sample.ids[-1] == policy.tokenizer.eos_token_id)
    measured = engine.measured()
    assert measured["engine_difference"] <= measured["engine_difference_max"] < 1e-5


def test_a_dead_server_s_work_goes_to_the_others(
    policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(policy, tmp_path, {"dies_after": 3}, {"forgets_after": 4}) as (dying, other):
        samples = drawn(policy.engine(dying.url, other.url))
        again = [row for row in other.asked("load_lora_adapter") if row["lora_name"]]
        assert len({(s.prompt, s.number) for s in samples}) == 12
        assert len(again) == 2  # once for the round, once when it had begun anew
        assert len(other.asked("completions")) >= 9
        alone = policy.engine(dying.url)
        with pytest.raises(Paused, match=f"none of 1 servers answers, {dying.url}"):
            drawn(alone)
    assert f"server {dying.url} does not answer" in capsys.readouterr().err


def test_all_die_while_they_draw(policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dying = serving(policy, tmp_path, {"dies_after": 3}, {"dies_after": 6})
    with dying as servers, pytest.raises(Paused, match="none of the 2 servers answers"):
        drawn(policy.engine(*(server.url for server in servers)))
    assert "its work goes to the other 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("faults", "given", "told"),
    [
        ({"adapters": False}, {}, "cannot be given a policy"),
        ({}, {"adapted": False}, "takes adapters, and all weights are trained"),
        ({}, {"settings": Generation(max_new_tokens=5, temperature=0.7)}, "tells log-probabilities before the temper"),
        ({"ids": False}, {}, "no token ids in its answer"),
        ({"drift": 0.5}, {}, "0.5 nats a token from ours, engine.most_difference is 0.2"),
        ({"logprobs": False}, {"ahead": True}, "tells no log-probabilities of a sample"),
        ({"develops": True}, {"ahead": True, "adapted": False}, "does not say which weights it answers by"),
    ],
)
def test_what_is_refused(
    faults: dict[str, Any], given: dict[str, Any], told: str, policy: Policy, tmp_path: Path
) -> None:
    with serving(policy, tmp_path, faults) as (server,), pytest.raises((ConfigError, ModelError), match=told):
        drawn(policy.engine(server.url, **given))


def test_another_base_model_is_refused_by_what_it_draws(policy: Policy, tmp_path: Path) -> None:
    """The adapter fits, and the server answers under its name: only the numbers show it."""
    with torch.no_grad():
        for parameter in policy.model.get_base_model().parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    with serving(policy, tmp_path, {}) as (server,), pytest.raises(ModelError, match="another base model"):
        drawn(policy.engine(server.url))


@pytest.mark.parametrize(("processed", "on_tokens"), [(True, False), (False, False), (False, True)])
def test_log_probabilities_are_compared_at_the_temperature_they_are_told_at(
    processed: bool, on_tokens: bool, policy: Policy, tmp_path: Path
) -> None:
    """Also where pairs keep the tokens that were drawn: their loss is not corrected by what servers said of them."""
    with serving(policy, tmp_path, {"processed": processed}) as (server,):
        settings = Generation(max_new_tokens=5, num_samples=4, temperature=0.6)
        engine = policy.engine(server.url, settings=settings, on_tokens=on_tokens, corrected=False)
        drawn(engine)
        assert engine.measured()["engine_difference_max"] < 1e-5


def test_a_server_without_log_probabilities_is_told_of_once(
    policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(policy, tmp_path, {"logprobs": False}) as (server,):
        engine = policy.engine(server.url)
        drawn(engine)
        drawn(engine)
    assert engine.measured() == {}
    assert capsys.readouterr().err.count("tells no log-probabilities") == 1


def test_settings_that_cannot_be() -> None:
    for wrong, told in (
        ({"urls": []}, "one or more different addresses"),
        ({"urls": ["http://a:1/v1"] * 2}, "one or more different addresses"),
        ({"urls": ["a:1"]}, "no scheme"),
        ({"urls": ["http://a:1/v1"], "importance_cap": 0.0}, "must be positive"),
        ({"urls": ["http://a:1/v1"], "patience": 0.0}, "patience positive"),
    ):
        with pytest.raises(ConfigError, match=told):
            ServerPool(**copy.deepcopy(wrong))  # type: ignore[arg-type]
