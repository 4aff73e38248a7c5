"""Every option of a pool of servers in the verbs that take one, and what they do not read beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from align.cli.evaluate import evaluate
from align.cli.generate import generate
from align.evaluation import served_policy
from align.sampling import pool_dispatch, wire
from tests.cli.observing import Observed, Seen, Verb, check
from tests.cli.pooled import POOL
from tests.sampling.vllm_server import vllm_serve

NONE = {("pooled", "pool.importance_cap"): "belongs to online RL"}
URL = ("--pool.urls", "[URL]")
ASKED = ("--model.path", "THINGS/model", "--prompts", "THINGS/pairs.jsonl", "--generation.max_new_tokens", "4")
MODELS = ("--models", "[THINGS/model]", "--prompts", "THINGS/pairs.jsonl", "--sampling.generation.max_new_tokens", "4")
GENERATE = Verb(
    generate,
    "generate",
    {"pooled": (*ASKED, *URL)},
    {
        **POOL,
        "model.dtype": ("--model.dtype", "bfloat16"),
        "generation.temperature": ("--generation.temperature", "0"),
        "generation.seed": ("--generation.seed", "7"),
        "template": ("--template", "plain"),
        "model.check": ("--model.check", "false"),
        "model.quantization": ("--model.quantization", "nf4"),
        "model.random_init": ("--model.random_init", "true"),
        "generation.batch_tokens": ("--generation.batch_tokens", "1"),
        "engine": ("--engine", "vllm"),
        "server": ("--server.base_url", "http://a:1/v1", "--server.model", "m", "--server.api_key_env", "null"),
        "steer": ("--steer", "THINGS/vectors.safetensors"),
    },
    refused={
        **NONE,
        **{("pooled", f"model.{n}"): "as it is" for n in ("check", "quantization", "random_init")},
        ("pooled", "generation.batch_tokens"): "make their own batches",
        ("pooled", "engine"): "--pool draws instead",
        ("pooled", "server"): "--pool draws instead",
        ("pooled", "steer"): "leave out --pool",
    },
)
EVALUATE = Verb(
    evaluate,
    "evaluate",
    {"pooled": (*MODELS, *URL)},
    {
        **POOL,
        "sampling.dtype": ("--sampling.dtype", "bfloat16"),
        "sampling.temperatures": ("--sampling.temperatures", "[0.5]"),
        "sampling.check": ("--sampling.check", "false"),
        "sampling.engine": ("--sampling.engine", "continuous"),
        "sampling.generation.batch_tokens": ("--sampling.generation.batch_tokens", "1"),
    },
    refused={
        **NONE,
        ("pooled", "sampling.check"): "--pool draws",
        ("pooled", "sampling.engine"): "--pool draws instead",
        ("pooled", "sampling.generation.batch_tokens"): "makes its own batches",
    },
)
VERBS = {verb.name: verb for verb in (GENERATE, EVALUATE)}


@pytest.mark.parametrize(("name", "option"), [(v.name, option) for v in VERBS.values() for option in v.options])
def test_option(name: str, option: str, observed: Observed, servers: dict[str, str]) -> None:
    def run(words: Sequence[str]) -> Seen:
        return observed([word if word[0] != "[" else f"[{servers.get(word[1:-1], word[1:-1])}]" for word in words])

    check(VERBS[name], "pooled", option, run)


@pytest.fixture(scope="module")
def servers(things: Path, tmp_path_factory: pytest.TempPathFactory, recorder: list[str]) -> Iterator[dict[str, str]]:
    """Two servers that were started with the model; how they are called is part of what is seen."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("POOL_KEY", "sesame-and-more")
    folder = tmp_path_factory.mktemp("served")
    with vllm_serve(things / "model", folder) as one, vllm_serve(things / "model", folder) as other:
        for place, name, told in (
            (wire.httpx2, "Limits", ()),
            (pool_dispatch, "RetryPolicy", (0, 1)),
            (pool_dispatch, "Wire", (0, 1)),
            (served_policy, "EngineDifference", (2,)),
        ):
            monkeypatch.setattr(place, name, _noting(getattr(place, name), recorder, told))
        yield {"URL": one.url, "BOTH": f"{one.url},{other.url}"}
        monkeypatch.undo()


def _noting(original: Callable[..., Any], notes: list[str], told: tuple[int, ...]) -> Callable[..., Any]:
    """Wrap what a setting is handed to, and note the values at some places, or those that have names."""

    def call(*values: Any, **named: Any) -> Any:
        notes.append(f"{original.__name__} {[values[place] for place in told] or named}")
        return original(*values, **named)

    return call
