"""Servers whose own weights are replaced, and SGLang: against stand-ins of both APIs, as their sources document them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.errors import ConfigError, ModelError
from align.models.backbone import Backbone
from align.sampling.engine_difference import EngineDifference
from align.sampling.generation import Sample
from align.sampling.policy_server import ServedPolicy
from align.sampling.pool_engine import PoolEngine
from align.sampling.pool_servers import PoolServers
from align.sampling.server_pool import ServerPool
from align.sampling.stopping_criteria import StopCriteria
from tests.resume.runs import Run
from tests.rounds.runs import command, world_model
from tests.rounds.test_pool import EVERY
from tests.rounds.test_pool_engine import ASKED, SETTINGS, Policy, drawn
from tests.sampling.sglang_server import sglang_serve
from tests.sampling.vllm_server import Served, vllm_serve
from tests.test_configs import scalars

__all__ = ["world_model"]
SERVE = {"vllm": vllm_serve, "sglang": sglang_serve}


class Whole(Policy):
    """A policy whose weights were all trained, far from those of the servers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.model = AutoModelForCausalLM.from_pretrained(self.base)
        torch.manual_seed(2)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        self.folder = folder / "whole"
        self.model.save_pretrained(self.folder)

    def engine(self, *urls: str, **given: Any) -> PoolEngine:
        pool = ServerPool(list(urls), patience=0.4, concurrency=given.pop("concurrency", 2))
        return PoolEngine(
            PoolServers(pool, adapted=False, on_tokens=True, corrected=True, **given),
            StopCriteria(self.tokenizer, [self.tokenizer.eos_token_id]),
            SETTINGS,
            write=lambda takes: ServedPolicy("align-run-one", self.folder, "align-run-"),
            difference=EngineDifference(self.model, SETTINGS, pool.most_difference, backbone=Backbone("here")),
        )


@pytest.fixture
def policy(tmp_path: Path) -> Whole:
    return Whole(tmp_path)


@contextmanager
def serving(policy: Policy, folder: Path, *kinds: tuple[str, dict[str, Any]]) -> Iterator[list[Served]]:
    with ExitStack() as stack:
        yield [stack.enter_context(SERVE[kind](policy.base, folder, **faults)) for kind, faults in kinds]


def gaps(policy: Policy, samples: Sequence[Sample]) -> float:
    """Return the largest difference from the policy's own log-probabilities, by plain forward passes."""
    most = 0.0
    for sample in samples:
        prompt = list(ASKED[sample.prompt].ids)
        with torch.no_grad():
            logits = policy.model(torch.tensor([[*prompt, *sample.ids]])).logits[0, len(prompt) - 1 : -1]
        ours = logits.log_softmax(-1).gather(1, torch.tensor(sample.ids)[:, None])[:, 0]
        most = max(most, float((ours - torch.tensor(sample.logprobs)).abs().max()))
    return most


DEVELOPS: tuple[str, dict[str, Any]] = ("vllm", {"develops": True})
SEEN: tuple[str, dict[str, Any]] = ("vllm", {"develops": True, "restarts_after": 5})


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param([DEVELOPS, ("sglang", {})], id="both"),
        pytest.param([SEEN], id="vllm-began-anew"),
        pytest.param([("sglang", {"restarts_after": 5})], id="sglang-began-anew"),
    ],
)
def test_every_sample_is_drawn_by_the_weights_that_were_given(
    kinds: list[tuple[str, dict[str, Any]]], policy: Whole, tmp_path: Path
) -> None:
    """A server that began anew in the middle has its own weights, and is given the policy's again before it is believed."""
    with serving(policy, tmp_path, *kinds) as servers:
        engine = policy.engine(
            *(server.url for server in servers), concurrency=1
        )  # no request outlives a server's death
        samples = drawn(engine)
        given = [[*server.asked("collective_rpc"), *server.asked("update_weights_from_disk")] for server in servers]
    assert {(s.prompt, s.number) for s in samples} == {(p, n) for p in range(3) for n in range(4)}
    assert gaps(policy, samples) < 1e-4
    assert engine.measured()["engine_difference_max"] < 1e-4
    again = any("restarts_after" in faults for _, faults in kinds)
    assert all(len([row for row in rows if row.keys() != {"path"}]) == 1 + again for rows in given)


@pytest.mark.parametrize(
    ("kind", "faults", "told"),
    [
        ("vllm", {"develops": True, "restarts_after": 9, "seen": False}, "weights of another round"),
        ("sglang", {"lies": True}, "given the weights align-run-one, it says that it has 'default'"),
        ("vllm", {}, "takes adapters, and all weights are trained"),
        ("vllm", {"adapters": False}, "cannot be given a policy"),
    ],
)
def test_a_server_with_other_weights_is_refused(
    kind: str, faults: dict[str, Any], told: str, policy: Whole, tmp_path: Path
) -> None:
    """The first began anew with no request under way: its answers alone tell, the last of the batch among them."""
    with (
        serving(policy, tmp_path, (kind, faults)) as (server,),
        pytest.raises((ConfigError, ModelError), match=told),
    ):
        drawn(policy.engine(server.url, concurrency=1))


@pytest.mark.parametrize("kind", [DEVELOPS, ("sglang", {})])
def test_weights_of_another_shape_are_told(kind: tuple[str, dict[str, Any]], policy: Whole, tmp_path: Path) -> None:
    config = policy.model.config
    config.intermediate_size *= 2
    type(policy.model)(config).save_pretrained(policy.folder)
    with serving(policy, tmp_path, kind) as (server,), pytest.raises(ModelError, match="does not take the weights"):
        drawn(policy.engine(server.url))


def test_a_model_that_is_only_asked_replaces_no_weights_of_vllm(policy: Whole, tmp_path: Path) -> None:
    """It would go on under the name of the model it was started with, and the next command would believe that."""
    with serving(policy, tmp_path, DEVELOPS) as (server,), pytest.raises(ConfigError, match="not started"):
        drawn(policy.engine(server.url, asked=str(policy.folder)))


def test_sglang_draws_from_an_adapter_and_on_after_the_end_tokens_of_others(tmp_path: Path) -> None:
    """Half of the vocabulary ends a sample in the server's eyes; it began anew once, and forgot the adapter."""
    policy = Policy(tmp_path)
    ends = tuple(range(10, 40))
    with serving(policy, tmp_path, ("sglang", {"ends": ends, "restarts_after": 7})) as (server,):
        engine = policy.engine(server.url, concurrency=1)
        samples = drawn(engine)
        asked = server.asked("generate")
        former = policy.engine(server.url, name="align-run-two")
        former.ready()
        assert [row["lora_name"] for row in server.asked("unload_lora_adapter")] == ["align-run-one"]
        former.ready()  # it is there already
    assert gaps(policy, samples) < 1e-4
    eos = policy.tokenizer.eos_token_id
    assert any(set(sample.ids[:-1]) & set(ends) for sample in samples)
    assert all(sample.ids[-1] == eos if sample.finish == "eos" else len(sample.ids) == 5 for sample in samples)
    assert len(asked) > len(samples)
    assert (
        len({row["sampling_params"]["sampling_seed"] for row in asked if "sampling_seed" in row["sampling_params"]})
        == 12
    )


@pytest.mark.parametrize(
    ("faults", "told"),
    [({"lora": False}, "--enable-lora"), ({"version": "align-other-run"}, "has the weights that a run gave it")],
)
def test_adapters_on_sglang_that_cannot_be(faults: dict[str, Any], told: str, tmp_path: Path) -> None:
    policy = Policy(tmp_path)
    with (
        serving(policy, tmp_path, ("sglang", faults)) as (server,),
        pytest.raises((ConfigError, ModelError), match=told),
    ):
        drawn(policy.engine(server.url))


@pytest.mark.slow
def test_a_run_that_trains_all_weights(tmp_path: Path, world_model: Path) -> None:
    """Each round replaces them anew; afterwards vLLM has its own again, and SGLang says whose it has."""
    with (
        vllm_serve(world_model, tmp_path, develops=True, processed=True) as one,
        sglang_serve(world_model, tmp_path) as two,
    ):
        given = {"urls": [one.url, two.url], "patience": 1.0, "concurrency": 2}
        more = ["--trainer.callbacks.engine", json.dumps(given), "--trainer.max_epochs", "2"]
        run = Run(tmp_path / "run", [*command(world_model, method="grpo", selection=EVERY), *more])
        assert run() == 0, run.log
        reloads = [row["kwargs"]["weights_path"] for row in one.asked("collective_rpc") if "kwargs" in row]
        updates = [row["weight_version"] for row in two.asked("update_weights_from_disk")]
    assert len(set(updates)) == 2
    assert [Path(path).name.removesuffix("-whole") for path in reloads[:2]] == updates
    assert reloads[2:] == [str(world_model)]
    assert run.log.count("has its own weights replaced by the policy's") == 2
    assert max(scalars(run.root, "train/engine_difference_max")) < 1e-4
