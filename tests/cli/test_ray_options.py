"""Every option of workers on a Ray cluster in the verbs that take them, and what they do not read beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from align.cli.data_rank import rank
from align.cli.evaluate import evaluate
from align.cli.generate import generate
from align.evaluation import ray_drawing
from align.rewards import scorers
from align.workers.ray_settings import RayWorkers
from tests.cli.observing import Observed, Verb, check
from tests.cli.rayed import RAY, WORKERS
from tests.workers.sessions import HereSession

TWO = ("--ray.workers", "2", "--ray.gpus", "0")
ASKED = ("--model.path", "THINGS/model", "--prompts", "THINGS/pairs.jsonl", "--generation.max_new_tokens", "4")
MODELS = ("--models", "[THINGS/model]", "--prompts", "THINGS/pairs.jsonl", "--sampling.generation.max_new_tokens", "4")
RANKED = ("--data", "THINGS/pairs.jsonl", "--rewards", "THINGS/two", "--out", "o.txt")
POOL = ("--pool.urls", "[http://a:1/v1]")
GENERATE = Verb(
    generate,
    "generate",
    {"spread": (*ASKED, *TWO)},
    {
        **RAY,
        "model.dtype": ("--model.dtype", "bfloat16"),
        "model.random_init": ("--model.random_init", "true"),
        "generation.temperature": ("--generation.temperature", "0"),
        "generation.seed": ("--generation.seed", "7"),
        "generation.batch_tokens": ("--generation.batch_tokens", "1"),
        "engine": ("--engine", "vllm"),
        "server": ("--server.base_url", "http://a:1/v1", "--server.model", "m", "--server.api_key_env", "null"),
        "pool": POOL,
        "steer": ("--steer", "THINGS/vectors.safetensors"),
    },
    refused={
        ("spread", "model.random_init"): "random weights are others on every worker",
        ("spread", "engine"): "--ray draws by our own engine",
        ("spread", "server"): "--ray draws instead",
        ("spread", "pool"): "--ray draws instead",
        ("spread", "steer"): "leave out --ray",
    },
)
EVALUATE = Verb(
    evaluate,
    "evaluate",
    {"spread": (*MODELS, *TWO)},
    {
        **RAY,
        "sampling.dtype": ("--sampling.dtype", "bfloat16"),
        "sampling.check": ("--sampling.check", "false"),
        "sampling.generation.batch_tokens": ("--sampling.generation.batch_tokens", "1"),
        "sampling.engine": ("--sampling.engine", "continuous"),
        "rewards": ("--rewards", "[THINGS/reward]"),
        "pool": POOL,
    },
    refused={
        ("spread", "pool"): "--ray draws instead",
        ("spread", "sampling.engine"): "--ray draws by our own engine",
    },
)
RANK = Verb(
    rank,
    "data rank",
    {"spread": (*RANKED, *TWO), "otherwise": (*RANKED[:2], *RANKED[4:], "--scorer", "GoldRewards")},
    WORKERS,
    refused={("otherwise", "ray.workers"): "belongs to --rewards"},
    only={"otherwise": ["ray.workers"]},
)
VERBS = {verb.name: verb for verb in (GENERATE, EVALUATE, RANK)}


@pytest.mark.parametrize(("name", "mode", "option"), [(v.name, *case) for v in VERBS.values() for case in v.cases()])
@pytest.mark.usefixtures("_here")
def test_option(name: str, mode: str, option: str, observed: Observed) -> None:
    check(VERBS[name], mode, option, observed)


@pytest.fixture(scope="module")
def _here(recorder: list[str]) -> Iterator[None]:
    """Workers in this process; what they are told is part of what is seen."""

    class Noting(HereSession):
        def __init__(self, settings: RayWorkers, setting: str) -> None:
            super().__init__(settings, setting)
            told = (settings.address, settings.workers, settings.gpus, settings.cpus, settings.patience)
            recorder.append(f"session {setting} {told}")

    def difference(*values: Any, **named: Any) -> Any:
        recorder.append(f"difference {values[2]}")
        return original(*values, **named)

    original, monkeypatch = ray_drawing.EngineDifference, pytest.MonkeyPatch()
    monkeypatch.setattr(ray_drawing, "EngineDifference", difference)
    monkeypatch.setattr(ray_drawing, "RaySession", Noting)
    monkeypatch.setattr(scorers, "RaySession", Noting)
    yield
    monkeypatch.undo()
