"""Prompts that gave no record are replaced: DAPO's dynamic sampling as a loop over the same prompts, kills, ends, refusals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.modules.group_policy import GroupPolicyModule
from align.records import Example
from align.rewards.scorers import Direction, Scorer
from align.rounds.every_sample import EverySample
from align.rounds.round_folder import RoundFolder
from align.rounds.round_store import RoundStore
from align.rounds.selections import TopFraction
from align.sampling.generation import Generation
from tests.rounds.runs import world_model
from tests.rounds.test_online import CONSTANT, rounds, run

__all__ = ["world_model"]


class CutOffError(Exception):
    """What ends a run."""


class Uneven(Scorer):
    """Samples differ where a hash of the prompt's id is even."""

    attributes = ("reward",)
    identity = "uneven"

    def __init__(self, share: int = 2) -> None:
        self.share, self.left = share, 10**9

    def differs(self, name: str) -> bool:
        return hashlib.sha256(name.encode()).digest()[0] % self.share == 0

    def score(self, prompts: Any, responses: Any) -> Tensor:
        raise AssertionError("samples are scored with their examples")

    def score_examples(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        self.left -= len(examples)
        if self.left < 0:
            raise CutOffError
        found = [
            int(hashlib.sha256(text.encode()).hexdigest(), 16) % 997 if self.differs(e.id) else 0
            for e, text in zip(examples, responses, strict=True)
        ]
        return torch.tensor(found).double()[:, None]


def settings(scorer: Scorer, **more: Any) -> dict[str, Any]:
    own = {"selection": EverySample(skip_equal=True), "scorer": scorer, "direction": Direction(), "prompts": 4}
    own["missing_eos_penalty"] = 0.0
    return {**own, "generation": Generation(max_new_tokens=6, num_samples=3), **more}


def made(folder: str = "run") -> list[list[str]]:
    """The prompts of every round's records, in order."""
    files = sorted(Path(folder, "rounds").glob("round-*.jsonl"))
    return [[json.loads(line)["id"].split("@")[0] for line in f.read_text().splitlines()] for f in files]


def policy(folder: Path) -> GroupPolicyModule:
    return GroupPolicyModule(Backbone(str(folder)), optimizer=CONSTANT)


def in_order(given: dict[str, Any], count: int) -> list[str]:
    """The ids of the data's prompts as rounds without refills take them."""
    run(policy(Path("world")), 1, **{**given, "prompts": count, "selection": EverySample()})
    Path("run").rename("order")
    return made("order")[0]


def test_rounds_are_full_and_go_on_behind_each_other(world_model: Path) -> None:
    """Independently: walk along the order, keep what differs, four a round, as many drawn as are still missing."""
    scorer = Uneven()
    order = in_order(settings(scorer), 20)
    run(policy(world_model), 3, groups=4, **settings(scorer, refills=10))
    place, expected = 0, []
    for _ in range(3):
        kept, drawn = [], 0
        while len(kept) < 4:
            part = [order[(place + i) % len(order)] for i in range(4 - len(kept))]
            place, drawn = place + len(part), drawn + len(part)
            kept += [name for name in part if scorer.differs(name)]
        expected.append(kept)
    assert made() == expected
    counts = [row.manifest["counts"] for row in RoundFolder(Path("run/rounds")).store.rounds()]
    assert sum(told["taken"] for told in counts) == place
    assert all(told["records"] == 4 for told in counts)


def test_a_run_that_is_cut_off_in_a_refill_ends_the_same(world_model: Path) -> None:
    run(policy(world_model), 1, groups=4, **settings(Uneven(3), refills=10))
    whole = made()
    Path("run").rename("whole")
    cut = Uneven(3)
    cut.left = 5 * 3  # the first prompts are scored, and one of the refill is not
    with pytest.raises(CutOffError):
        run(policy(world_model), 1, groups=4, **settings(cut, refills=10))
    assert not made()
    run(policy(world_model), 1, groups=4, **settings(Uneven(3), refills=10))
    assert made() == whole
    texts = [Path(folder, "rounds/round-0000.jsonl").read_bytes() for folder in ("run", "whole")]
    assert texts[0] == texts[1]


def test_it_ends_where_the_data_does_or_at_the_limit(world_model: Path) -> None:
    scorer = Uneven(3)
    run(policy(world_model), 1, groups=4, **settings(scorer, prompts=15, refills=50))
    (row,) = RoundFolder(Path("run/rounds")).store.rounds()
    every = {s.prompt for s in RoundStore(Path("run/rounds/rounds.sqlite")).samples(0)}
    assert row.manifest["counts"]["taken"] == len(every)
    assert made() == [[name for name in made()[0] if scorer.differs(name)]]
    assert 0 < len(made()[0]) < 15
    Path("run").rename("first")
    run(policy(world_model), 1, groups=4, **settings(scorer, refills=1))
    (row,) = RoundFolder(Path("run/rounds")).store.rounds()
    assert 4 < row.manifest["counts"]["taken"] <= 8


@pytest.mark.parametrize(
    "more",
    [
        {"refills": -1},
        {"refills": 1, "prompts": None},
        {"refills": 1, "alternate_halves": True},
        {"refills": 1, "selection": TopFraction()},
    ],
)
def test_what_cannot_be_refilled_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"refills -?1 is for rounds of some of the prompts"):
        rounds(**more)


def test_a_round_from_which_nothing_is_learned_is_told(world_model: Path) -> None:
    module = GroupPolicyModule(Backbone(str(world_model)), optimizer=CONSTANT)
    with pytest.warns(UserWarning, match="samples of a whole round have no advantage"):
        log = run(module, 1, scorer=Uneven(10**9), direction=Direction(), missing_eos_penalty=0.0)
    assert log.series("train/grad_norm") == [0.0]
