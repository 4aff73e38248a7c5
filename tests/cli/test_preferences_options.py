"""Every option of `benchmark preferences`, with policies, reward models and both; what belongs to training is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.cli.benchmark_preferences import preferences
from align.cli.main import main
from align.data.preference_file import PreferenceFileDataModule
from align.data.splits import Splits
from align.rewards.reward_model_scorer import RewardModelScorer
from tests.cli.observing import Observed, Verb, check, options_of
from tests.cli.things import lines

DATA = ("--data", "PreferenceFileDataModule", "--data.path", "THINGS/several.jsonl")
HALF = ("--data.splits.val_fraction", "0.5", "--split", "train", "--out", "o")
POLICIES = ("--policies.p", "THINGS/model", "--reference", "THINGS/other")
REWARDS = ("--rewards.r", "THINGS/two")
PREFERENCES = Verb(
    preferences,
    "benchmark preferences",
    {
        "both": (*DATA, *HALF, *POLICIES, *REWARDS),
        "policies": (*DATA, *HALF, *POLICIES),
        "rewards": (*DATA, *HALF, *REWARDS),
    },
    {
        "data": ("--data.splits.folds", "3", "--data.splits.fold", "1"),
        "policies": ("--policies.q", "THINGS/other"),
        "reference": ("--reference.p", "THINGS/model"),
        "rewards": ("--rewards.s", "THINGS/reward"),
        "split": ("--split", "val"),
        "direction.weights": ("--direction.weights.verbosity", "-1"),
        "direction.gates": ("--direction.gates", '[{"attribute": "verbosity", "at_least": -0.135, "penalty": 5}]'),
        "out": ("--out", "elsewhere"),
    },
    refused={
        **{("policies", name): "belongs to --rewards" for name in ("direction.weights", "direction.gates")},
        ("rewards", "reference"): "belongs to --policies",
    },
    only={"policies": ["direction.weights", "direction.gates"], "rewards": ["reference"]},
)


@pytest.fixture(scope="module", autouse=True)
def files(things: Path) -> None:
    texts = [("w" * (1 + (3 * n) % 5), "v" * (1 + n % 4)) for n in range(40)]
    rows = [{"prompt": f"Q{n}", "chosen": a, "rejected": f"{b} b"} for n, (a, b) in enumerate(texts)]
    lines(things / "several.jsonl", rows)


def test_every_option_is_tried() -> None:
    assert options_of(preferences) == set(PREFERENCES.options)


@pytest.mark.parametrize(("mode", "option"), PREFERENCES.cases())
def test_option(mode: str, option: str, observed: Observed) -> None:
    check(PREFERENCES, mode, option, observed)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--data.view", "Pairs"), "belongs to training"),
        (("--data.batching.groups", "4"), "belongs to training"),
        (("--data.streaming", "true"), "belongs to training"),
        (("--reference.pp", "THINGS/model"), "reference.pp: no policy has that name (p), did you mean 'p'?"),
        (("--rewards.p", "THINGS/two"), "no two by the same name"),
        (("--split", "test"), "split test: no responses in an order"),
        (("--data.encoding.truncation.max_total", "9999"), "lower truncation.max_total"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], says: str, observed: Observed) -> None:
    reference = () if words[0].startswith("--reference") else POLICIES[2:]
    tried = observed(["benchmark", "preferences", *DATA, *HALF, *POLICIES[:2], *reference, *words])
    assert tried.code == 2
    assert says in tried.said


def test_rows_hold_the_rewards_of_the_held_out_fold(things: Path, tmp_path: Path) -> None:
    """Those of a reward model are what its own scorer says, and ids those of the data's fold."""
    path, fold = str(things / "several.jsonl"), ("--data.splits.folds", "2", "--data.splits.fold", "1")
    words = ("--data", "PreferenceFileDataModule", "--data.path", path, *fold, "--rewards.r", str(things / "reward"))
    assert main(["benchmark", "preferences", *words, "--out", str(tmp_path)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    held_out = PreferenceFileDataModule(path, splits=Splits(folds=2, fold=1)).examples("test")
    assert [row["id"] for row in rows] == [example.id for example in held_out]
    scorer = RewardModelScorer(str(things / "reward"))
    for row, example in zip(rows, held_out, strict=True):
        expected = scorer.score([example.messages] * 2, example.responses)[:, 0].tolist()
        assert row["rewards"]["r.reward"] == pytest.approx(expected, abs=1e-5)
    right = [row["rewards"]["r.reward"][0] > row["rewards"]["r.reward"][1] for row in rows]
    figures = json.loads((tmp_path / "results.json").read_text())["models"]["r.reward"]
    assert figures["accuracy"]["value"] == pytest.approx(sum(right) / len(right))
