"""Nash-MD in rounds: who is trained on, with what chance, by rewards and by a judge; settings that do not fit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from align.callbacks.resampling import IterativeResampling
from align.data.source import Report
from align.errors import ConfigError
from align.judges.win_rates import ScorerJudge, WinRates
from align.models.backbone import Backbone
from align.modules.group_policy import GroupPolicyModule
from align.objectives.advantages import GroupAdvantage
from align.objectives.policy_gradient import PolicyGradient
from align.rewards.scorers import Direction, GoldRewards
from align.rounds.against_mixture import AgainstMixture
from align.rounds.round_file import read_round
from align.rounds.round_store import RoundStore
from align.sampling.generation import Generation
from align.sampling.logit_mixture import LogitMixture
from tests.rounds.runs import world_model
from tests.rounds.test_online import CONSTANT, run
from tests.rounds.test_online_pairs import prompt_samples

__all__ = ["world_model"]
SHORT = Direction({"verbosity": -1.0})
NASH: dict[str, Any] = {
    "selection": AgainstMixture(),
    "mixture": LogitMixture([0.0, 0.5]),
    "generation": Generation(max_new_tokens=8, num_samples=2),
    "prompts": 12,
}


def nash_md(folder: Path, beta: float = 0.1) -> GroupPolicyModule:
    more: dict[str, Any] = {"beta": beta, "kl": "k1_in_reward"} if beta else {}
    objective = PolicyGradient(GroupAdvantage("none", "none"), ratio="product", **more)
    return GroupPolicyModule(Backbone(str(folder)), objective, optimizer=CONSTANT)


def labels(record: str) -> dict[str, tuple[tuple[int, ...], float]]:
    """By prompt, the tokens that are trained on and their label."""
    file = Path(record)
    found = read_round(file, hashlib.sha256(file.read_bytes()).hexdigest())
    return {e.id: (tuple(e.response_ids[0]), e.scores[0][0]) for e in found}


def test_a_judge_gives_the_chances_of_rewards(world_model: Path) -> None:
    """ScorerJudge, graded, says Bradley and Terry's chance: the same records as of its rewards; of the policy's samples."""
    log = run(nash_md(world_model), 8, groups=12, **NASH | {"missing_eos_penalty": 0.0})
    assert log.series("train/kl")[0] == pytest.approx(0, abs=1e-6)
    assert log.series("rounds/reward")[-1] > log.series("rounds/reward")[0]
    samples = RoundStore(Path("run/rounds/rounds.sqlite")).samples(7)
    by_reward = labels("run/rounds/round-0007.jsonl")
    own = {f"{s.prompt}@7": s for s in samples if s.number == 0}
    assert all(list(ids) == own[name].ids for name, (ids, _) in by_reward.items())
    judge = WinRates(ScorerJudge(GoldRewards(), direction=SHORT, graded=True))
    Path("run").rename("rewards")
    callback = {"scorer": judge, "direction": Direction()}
    run(nash_md(world_model), 1, groups=12, **NASH | {"missing_eos_penalty": 0.0} | callback)
    expected, found = labels("rewards/rounds/round-0000.jsonl"), labels("run/rounds/round-0000.jsonl")
    assert found.keys() == expected.keys()
    for name, (ids, chance) in expected.items():
        assert found[name] == (ids, pytest.approx(chance, abs=1e-9))
    assert all(-0.5 <= chance <= 0.5 for _, chance in expected.values())


def test_a_prompt_with_one_sample_gives_nothing() -> None:
    report = Report()
    drawn = [p.__class__(p.example, p.candidates[:1], p.attributes) for p in prompt_samples()]
    assert AgainstMixture().build(drawn, report) == []
    assert report.dropped == {"one of two samples left out": len(drawn)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mixture": None}, "takes a sample of the policy and one of the mixture"),
        ({"mixture": LogitMixture([0.5, 0.0])}, "takes a sample of the policy and one of the mixture"),
        ({"mixture": LogitMixture([0.0, -0.5])}, "SHARE in"),
        ({"generation": Generation(num_samples=2, temperature=0.9)}, "temperature and top_p to 1, got 0.9 and 1"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        IterativeResampling(GoldRewards(), **NASH | change)


def test_a_penalty_on_a_judges_chances_is_refused(world_model: Path) -> None:
    judge = WinRates(ScorerJudge(GoldRewards(), direction=SHORT, graded=True))
    with pytest.raises(ConfigError, match="would be taken off win rates"):
        run(nash_md(world_model), 1, **NASH | {"scorer": judge, "direction": Direction()})


def test_a_round_of_several_steps_knows_the_policy_that_drew(world_model: Path) -> None:
    log = run(nash_md(world_model), 4, groups=6, **NASH | {"epochs": 2, "missing_eos_penalty": 0.0})
    moved = log.series("train/old_kl")
    assert [moved[n] for n in (0, 4)] == [0, 0]
    assert min(moved[n] for n in (1, 2, 3, 5, 6, 7)) > 0


def test_what_would_teach_nothing_is_refused(world_model: Path) -> None:
    for module, says in (
        (GroupPolicyModule(Backbone(str(world_model))), "beta 0: set objective.beta"),
        (GroupPolicyModule(Backbone(str(world_model)), PolicyGradient(beta=0.1)), "every advantage would be 0"),
        (nash_md(world_model, beta=0), "beta 0: set objective.beta"),
    ):
        with pytest.raises(ConfigError, match=says):
            run(module, 1, **NASH)
    with pytest.raises(ConfigError, match="num_samples 1 makes one sample of each prompt"):
        run(GroupPolicyModule(Backbone(str(world_model))), 1, generation=Generation(num_samples=1))
