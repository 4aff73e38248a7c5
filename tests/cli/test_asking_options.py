"""Every option of the verbs that ask models, in every mode: `front measure`, `front compare`, `benchmark probe`, `steer sweep`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from align.cli.benchmark_probe import probe_grid
from align.cli.front_compare import front_compare
from align.cli.front_measure import front_measure
from align.cli.steer_sweep import steer_sweep
from align.evaluation.fronts import Front, Point, write_front
from align.evaluation.hypervolume import hypervolume_interval
from tests.cli.model_options import ASK, DRAWN, GREEDY, GREEDY_REFUSED, MODEL, MODEL_REFUSED
from tests.cli.observing import Observed, Verb, check, options_of

FEW = ("--generation.max_new_tokens", "4", "--generation.num_samples", "2")
SCORED = ("--scorer", "RewardFolder", "--scorer.path", "THINGS/two", "--prompts", "THINGS/pairs.jsonl", *FEW)
OTHER = ("--scorer", "RewardFolder", "--scorer.path", "THINGS/two2")
PROMPTS = ("--prompts", "THINGS/pairs2.jsonl")
NO_GREEDY = {("greedy", name): reason for name, reason in GREEDY_REFUSED.items()}
DIRECTIONS = Verb(
    front_measure,
    "front measure",
    {
        "directed": ("--model.path", "THINGS/model", "--count", "2", *SCORED),
        "greedy": ("--model.path", "THINGS/rated", *SCORED, *GREEDY),
    },
    {
        **MODEL,
        **DRAWN,
        "model.path": ("--model.path", "THINGS/model2"),
        "scorer": OTHER,
        "prompts": PROMPTS,
        "count": ("--count", "3"),
        "out": ("--out", "elsewhere"),
    },
    refused={**MODEL_REFUSED, **NO_GREEDY, ("greedy", "count"): "is asked for those its folder names"},
    only={"greedy": [*GREEDY_REFUSED, "count"]},
)
FILES = ("--models", "[THINGS/one.json,THINGS/two.json]")
PARETO = Verb(
    front_compare,
    "front compare",
    {
        "folders": ("--models", "[THINGS/model,THINGS/plain]", "--count", "2", *SCORED),
        "greedy": ("--models", "[THINGS/rated,THINGS/one.json]", *SCORED, *GREEDY),
        "files": (*FILES, "--attributes", "[helpfulness,-verbosity]"),
    },
    {
        **DRAWN,
        "models": ("--models", "[THINGS/other,THINGS/model]"),
        "scorer": OTHER,
        "prompts": PROMPTS,
        "attributes": ("--attributes", "[helpfulness,verbosity]"),
        "reference": ("--reference", "[-9,9]"),
        "names": ("--names", "[a,b]"),
        "count": ("--count", "3"),
        "out": ("--out", "elsewhere"),
    },
    {("files", "models"): ("--models", "[THINGS/two.json,THINGS/one.json]")},
    {
        **NO_GREEDY,
        ("greedy", "count"): "no model of --models is asked for directions",
        ("files", "count"): "no model of --models is asked for directions",
        **{("files", name): "are measured already" for name in (*DRAWN, "scorer", "prompts")},
    },
    {"greedy": [*GREEDY_REFUSED, "count"]},
)
NO_REWARDS = {("*", "reward_tokens"): "belongs to --rewards"}
"""What it does beside them: `tests.callbacks.test_asking`."""
GRID = ("--grid.template", "A {value} {context}.", "--grid.values", "[nurse,guard]", "--grid.contexts", "[at sea,here]")
PROBE = Verb(
    probe_grid,
    "benchmark probe",
    {
        "drawn": ("--model.path", "THINGS/model", *GRID, *FEW),
        "greedy": ("--model.path", "THINGS/model", *GRID, *FEW, *GREEDY),
    },
    {
        **MODEL,
        **ASK,
        **DRAWN,
        "grid.template": ("--grid.template", "The {value} {context}?"),
        "grid.values": ("--grid.values", "[nurse,cook]"),
        "grid.contexts": ("--grid.contexts", "[at home,here]"),
        "grid.words": ("--grid.words", "{female: [she]}"),
        "rewards": ("--rewards.one", "THINGS/reward"),
        "reward_tokens": ("--reward_tokens", "20"),
        "out": ("--out", "probe.json"),
        "template": ("--template", "plain"),
        "chat_template_kwargs": ("--chat_template_kwargs", "{loud: true}"),
    },
    refused={**MODEL_REFUSED, **NO_GREEDY, **NO_REWARDS},
    only={"greedy": GREEDY_REFUSED},
)
SWEPT = ("--model.path", "THINGS/model", "--steer", "THINGS/vectors.safetensors", "--coefficients", "[0,1]", *FEW)
SWEEP = Verb(
    steer_sweep,
    "steer sweep",
    {
        "drawn": (*SWEPT, "--prompts", "THINGS/pairs.jsonl"),
        "greedy": (*SWEPT, "--prompts", "THINGS/pairs.jsonl", *GREEDY),
    },
    {
        **MODEL,
        **DRAWN,
        "steer": ("--steer", "THINGS/vectors2.safetensors"),
        "prompts": PROMPTS,
        "coefficients": ("--coefficients", "[0,3]"),
        "vector": ("--vector", "pca"),
        "layers": ("--layers", "[1]"),
        "rewards": ("--rewards", "[THINGS/reward]"),
        "reward_tokens": ("--reward_tokens", "20"),
        "plain": ("--plain", "true"),
        "out": ("--out", "sweep.json"),
    },
    refused={**MODEL_REFUSED, **NO_GREEDY, **NO_REWARDS},
    only={"greedy": GREEDY_REFUSED},
)
VERBS = {verb.name: verb for verb in (DIRECTIONS, PARETO, PROBE, SWEEP)}


@pytest.fixture(scope="module", autouse=True)
def fronts(things: Path) -> Iterator[None]:
    """Fronts of two models on the prompts of `pairs.jsonl`, and no pictures and few draws, which take most of the time."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: Path(path).touch())
    monkeypatch.setitem(hypervolume_interval.__kwdefaults__, "draws", 20)
    monkeypatch.setattr("align.evaluation.statistics.RESAMPLES", 50)
    monkeypatch.setattr("align.cli.front_compare.SummaryWriter.add_figure", lambda *_: None)
    for seed, name in enumerate(("one", "two")):
        rewards = np.random.default_rng(seed).normal(size=(2, 4, 2))
        points = (Point("0.0°"), Point("-45.0°"))
        write_front(Front(name, ("helpfulness", "verbosity"), points, rewards), things / f"{name}.json")
    yield
    monkeypatch.undo()


@pytest.mark.parametrize("name", VERBS)
def test_every_option_is_tried(name: str) -> None:
    assert options_of(VERBS[name].function) == set(VERBS[name].options)


@pytest.mark.parametrize(("name", "mode", "option"), [(v.name, *case) for v in VERBS.values() for case in v.cases()])
def test_option(name: str, mode: str, option: str, observed: Observed) -> None:
    check(VERBS[name], mode, option, observed)
