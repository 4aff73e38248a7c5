"""`align benchmark world --rewards --best_of`: against every choice of n written out, and a reward model by itself."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

from align.cli.main import main
from align.evaluation.best_of_n import kl_bound
from align.evaluation.gold_evaluation import SAMPLED, evaluate_gold
from align.evaluation.policy import Policy
from align.evaluation.world_best_of import best_of_gold
from align.models.backbone import Backbone
from align.models.world_settings import WORLD_KEY
from align.rewards.reward_model_scorer import RewardModelScorer
from align.world.prompts import held_out_prompts
from align.world.universe import World
from tests.evaluation.test_world_benchmark import save
from tests.tiny import save_reward_model

GOLD = [0.3, -1.0, 2.0, 0.5, 1.0, 1.0, -2.0, 4.0]
PROXY = [1.0, 2.0, 2.0, 2.0, 8.0, 7.0, 6.0, 5.0]
OWNERS = [0, 0, 0, 0, 1, 1, 1, 1]


def report(owners: list[int]) -> Any:
    return SimpleNamespace(
        drawn=SimpleNamespace(samples=[SimpleNamespace(prompt=owner) for owner in owners]),
        answers=[SimpleNamespace(reward=value) for value in GOLD],
        entities=("fox", "owl"),
    )


def of_all_choices(by: list[float], worth: list[float], n: int) -> list[float]:
    """Return, for both prompts, the mean over all choices of what the best is worth; of equals their mean."""
    found = []
    for places in (range(4), range(4, 8)):
        bests = [[i for i in c if by[i] == max(by[j] for j in c)] for c in combinations(places, n)]
        found.append(fmean(fmean(worth[i] for i in best) for best in bests))
    return found


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_it_is_the_mean_over_all_choices(n: int) -> None:
    found = best_of_gold(report(OWNERS), {"proxy": PROXY}, [n])
    for name, by in {"gold": GOLD, "proxy": PROXY}.items():
        own = found[name][str(n)]
        assert own["kl"] == kl_bound(n)
        assert own["by_prompt"]["reward"] == pytest.approx(of_all_choices(by, GOLD, n))
        assert own["reward"] == pytest.approx(fmean(own["by_prompt"]["reward"]))
        assert own["reward_models"]["by_prompt"]["proxy"] == pytest.approx(of_all_choices(by, PROXY, n))


def test_a_prompt_whose_samples_do_not_lie_together() -> None:
    mixed = [0, 1, 0, 1, 1, 0, 0, 1]
    own = best_of_gold(report(mixed), {}, [4])["gold"]["4"]["by_prompt"]["reward"]
    assert own == [max(g for g, o in zip(GOLD, mixed, strict=True) if o == prompt) for prompt in (0, 1)]


def write_models(folder: Path) -> tuple[Path, Path]:
    base, proxy = save(folder / "base", 0), save_reward_model(folder / "proxy", max_position_embeddings=2048)
    config = json.loads((proxy / "config.json").read_text())
    (proxy / "config.json").write_text(json.dumps({**config, WORLD_KEY: World().settings}))
    return base, proxy


def test_a_reward_model_is_asked_about_the_same_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, proxy = write_models(tmp_path)
    words = [f"--models.base={base}", f"--rewards.proxy={proxy}", "--prompts", "{harmless: 2, harmful: 1}"]
    few = ["--temperatures", "[0.5]", "--matched_base", "false", "--best_of", "[1, 4]", "--out", "found.json"]
    assert main(["benchmark", "world", *words, *few]) == 0
    found = json.loads(Path("found.json").read_text())["models"]["base"]
    policy = Policy.load(Backbone(str(base)))
    drawn = evaluate_gold(policy.model, policy.tokenizer, World(), held_out_prompts(World(), 2, 1), generation=SAMPLED)
    scores = RewardModelScorer(str(proxy)).score([a.prompt for a in drawn.answers], [a.text for a in drawn.answers])
    rows, rewards = scores[:, 0].view(3, 4), [[a.reward for a in drawn.answers[i : i + 4]] for i in (0, 4, 8)]
    assert found["reward_models"]["by_prompt"]["proxy"] == pytest.approx(rows.mean(1).tolist())
    assert found["best_of"]["gold"]["4"]["by_prompt"]["reward"] == pytest.approx([max(own) for own in rewards])
    assert found["best_of"]["proxy"]["1"]["reward"] == pytest.approx(found["reward"])
    assert found["best_of"]["proxy"]["4"]["reward_models"]["proxy"] == pytest.approx(rows.amax(1).mean().item())
    assert found["temperatures"]["0.5"]["reward_models"]["proxy"] != found["reward_models"]["proxy"]
    assert "chosen by proxy" in capsys.readouterr().out


def test_what_cannot_be_asked_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, proxy = write_models(tmp_path)
    several = save_reward_model(tmp_path / "several", outputs=("helpful", "short"))
    for words, told in {
        (f"--rewards.gold={proxy}",): "rewards.gold: the gold reward is called so: give the folder another name",
        (
            f"--rewards.several={several}",
            "--world.version=1",
        ): "expected a reward model of one output, got helpful, short",
        (f"--rewards.proxy={several}",): "of no synthetic world",
        ("--best_of=[0]",): "best_of.n: expected different whole numbers from 1",
    }.items():
        assert main(["benchmark", "world", f"--models.base={base}", *words]) == 2
        assert told in capsys.readouterr().err
