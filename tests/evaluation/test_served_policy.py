"""`align generate` and `align evaluate` by a pool of servers, against the engine of this process and a stand-in of vLLM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.cli.main import main
from align.errors import ConfigError
from align.sampling.server_pool import ServerPool
from tests.rounds.test_pool_engine import Policy
from tests.sampling.vllm_server import Served, vllm_serve

DRAWING = ("--sampling.generation.max_new_tokens", "5", "--pool.patience", "0.4", "--pool.concurrency", "1")


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Policy:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": " ".join(f"w{k}" for k in range(n)), "response": "a"} for n in range(1, 13)]
    Path("prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Policy(tmp_path)


@contextmanager
def pool(policy: Policy, *faults: dict[str, Any]) -> Iterator[list[Served]]:
    with ExitStack() as stack:
        yield [stack.enter_context(vllm_serve(policy.base, policy.folder.parent, **fault)) for fault in faults]


def urls(servers: list[Served]) -> tuple[str, str]:
    return "--pool.urls", json.dumps([server.url for server in servers])


def evaluated(policy: Policy, out: str, *words: str, model: Path | None = None) -> list[list[int]]:
    """Return the tokens of all completions."""
    told = words if "--pool.urls" in words else ()
    common = ("--models", f"[{model or policy.folder}]", "--prompts", "prompts.jsonl", "--out", out)
    assert main(["evaluate", *common, *(DRAWING if told else DRAWING[:2]), *words]) == 0
    (file,) = Path(out, "completions").iterdir()
    return [json.loads(line)["ids"] for line in file.read_text().splitlines()]


def test_an_adapter_is_sampled_by_servers_of_which_one_dies(policy: Policy, capsys: pytest.CaptureFixture[str]) -> None:
    """Greedy completions are those that our engine draws; afterwards no server holds the adapter any more."""
    with pool(policy, {"dies_after": 2}, {}) as servers:
        found = evaluated(policy, "served", *urls(servers))
        loaded = [row["lora_name"] for row in servers[1].asked("load_lora_adapter") if row["lora_name"]]
        unloaded = [row["lora_name"] for row in servers[1].asked("unload_lora_adapter")]
        assert len(servers[0].asked("completions")) >= 2
        assert f"server {servers[0].url} does not answer" in capsys.readouterr().err
    assert found == evaluated(policy, "own")
    assert loaded == unloaded
    assert len(loaded) == 1


def test_samples_follow_the_temperature_and_are_measured_against_the_start(policy: Policy) -> None:
    """The KL divergence comes from our own passes over what servers drew."""
    words = ("--sampling.temperatures", "[1.0]", "--start", str(policy.base))
    with pool(policy, {"processed": True}) as servers:
        evaluated(policy, "served", *urls(servers), *words)
        assert {row["temperature"] for row in servers[0].asked("completions")} == {1.0}
    (levels,) = json.loads(Path("served/evaluation.json").read_text())["models"].values()
    assert levels["1.0"]["kl"][0] > 0


def test_a_server_started_with_the_model_is_asked_under_its_name(
    policy: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is loaded, and the completions are those of our engine."""
    words = ["generate", "--model.path", str(policy.base), "--prompts", "prompts.jsonl"]
    words += ["--generation.temperature", "0", "--generation.max_new_tokens", "5"]
    one_by_one = ("--pool.concurrency", "1")
    assert main([*words, "--out", "own.jsonl"]) == 0
    with pool(policy, {"named": "mine"}, {"adapters": False}) as servers:
        assert main([*words, "--out", "served.jsonl", *urls(servers), *one_by_one]) == 0
        asked = [server.asked("completions") for server in servers]
        assert not [row for server in servers for row in server.asked("load_lora_adapter")]
    assert [{row["model"] for row in rows} for rows in asked] == [{"mine"}, {str(policy.base)}]
    assert Path("served.jsonl").read_text() == Path("own.jsonl").read_text()


def test_what_is_refused(policy: Policy, capsys: pytest.CaptureFixture[str]) -> None:
    other = policy.folder.parent / "other"
    model = AutoModelForCausalLM.from_pretrained(policy.base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(other)
    policy.tokenizer.save_pretrained(other)
    adapter = json.loads((policy.folder / "adapter_config.json").read_text())
    words = ["generate", "--prompt", "w1", "--generation.max_new_tokens", "5", "--model.path"]

    def said(code: int, *more: str) -> str:
        assert main([*words, *more]) == code
        return capsys.readouterr().err

    with pool(policy, {}, {"adapters": False}) as servers:
        one, plain = urls(servers[:1]), urls(servers[1:])
        assert "a whole model, with which it was not started" in said(2, str(other), *one)
        assert "pool.urls: server" in said(2, str(policy.folder), *plain)
        (policy.folder / "adapter_config.json").write_text(
            json.dumps({**adapter, "base_model_name_or_path": str(other)})
        )
        assert "pool.most_difference is 0.2" in said(2, str(policy.folder), *one)
        assert "belongs to online RL" in said(2, str(other), *one, "--pool.importance_cap", "3")
    assert "give the same command again" in said(75, str(other), *one, "--pool.patience", "0.4")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"urls": []}, r"ServerPool\.urls: expected one or more different addresses, got \[\]"),
        ({"urls": ["http://a/v1", "http://a/v1"]}, r"ServerPool\.urls: expected one or more different"),
        ({"urls": ["localhost:8000"]}, r"ServerPool\.urls has no scheme: expected http\(s\)://HOST/PATH"),
        ({"urls": ["http://far/v1"], "api_key_env": "KEY"}, r"ServerPool\.urls http://far: a key would travel"),
        ({"urls": ["http://a/v1"], "concurrency": 0}, "ServerPool: concurrency must be at least 1"),
        ({"urls": ["http://a/v1"], "importance_cap": 0.0}, "ServerPool: most_difference and importance_cap must"),
    ],
)
def test_wrong_settings_of_a_pool_are_named(settings: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ServerPool(**settings)
