"""Rounds in training: what is trained on, what is refused, what the manifest says."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from align.callbacks.resampling import IterativeResampling
from align.data.batching import Batching
from align.data.drop_report import Report
from align.data.synthetic import SyntheticDataModule
from align.encoding.templates import ChatTemplate, PlainTranscript
from align.errors import ConfigError, DataError, ModelError, ResumeError
from align.models.backbone import Backbone, LoRA
from align.modules.dpo import DPOModule
from align.modules.hir import HIRModule
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.records import Example, Instructions, Message
from align.rewards.scorers import Direction, GoldRewards, Scorer
from align.rounds.manifest import manifest
from align.rounds.mixing import Replay
from align.rounds.pair_selections import BestWorst
from align.rounds.plan import RoundPlan
from align.rounds.prompt_supply import told_apart
from align.rounds.rerank import AppendAndRerank
from align.rounds.round_folder import RoundFolder
from align.rounds.round_store import RoundStore, StoredSample
from align.rounds.sample_scores import tell_other_scorer
from align.rounds.scored_samples import PromptSamples, ScoredSample
from align.rounds.selections import BestOfN, Selection, TopFraction
from align.rounds.settings import RoundSettings
from align.sampling.generation import Generation
from align.sampling.sampler import Sampler
from align.training.optimizer import Optimizer
from align.world.preferences import Preferences
from tests.modules.fitting import fit
from tests.rounds.runs import world_model

__all__ = ["world_model"]
SHORT = Direction({"verbosity": -1.0})


class Told(Scorer):
    """Scores by a function of the text."""

    attributes = ("reward",)

    def __init__(self, function: Any = lambda text: float(len(text))) -> None:
        self.function = function
        self.asked: list[str] = []

    @property
    def identity(self) -> str:
        return "told"

    def score(self, prompts: Any, responses: Any) -> torch.Tensor:
        self.asked += responses
        return torch.tensor([[self.function(r)] for r in responses], dtype=torch.float64)


def resampling(scorer: Scorer | None = None, selection: Selection = BestWorst(), **options: Any) -> IterativeResampling:
    generation = Generation(max_new_tokens=5, num_samples=4, batch_tokens=200)
    given = {"generation": generation, "prompts": 6, "missing_eos_penalty": 0.0, **options}
    return IterativeResampling(scorer or Told(), selection, **given)


def run(folder: Path, callback: IterativeResampling, module: Any = DPOModule, epochs: int = 2, **options: Any) -> Any:
    data = SyntheticDataModule(Preferences(size=20, held_out_size=4), batching=Batching(groups=3, tokens=10**9), seed=0)
    made = module(Backbone(str(folder), **options), optimizer=Optimizer(learning_rate=1e-2))
    trainer = fit(made, data, callbacks=[callback], max_epochs=epochs, default_root_dir="run")
    return trainer, made, data


def rows(number: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(f"run/rounds/round-{number:04d}.jsonl").read_text().splitlines()]


def manifests() -> list[dict[str, Any]]:
    return [row.manifest for row in RoundStore(Path("run/rounds/rounds.sqlite")).rounds()]


def test_rounds_take_turns_over_the_prompts(world_model: Path) -> None:
    run(world_model, resampling(), epochs=3)
    prompts = [{row["id"].split("@")[0] for row in rows(number)} for number in range(3)]
    assert all(not a & b for a, b in ((prompts[0], prompts[1]), (prompts[1], prompts[2]), (prompts[0], prompts[2])))
    assert {row["origins"][0] for row in rows(2)} == {"policy@2"}
    for row in rows(1):
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert row["scores"] == [[float(len(text))] for text in row["responses"]]


def test_the_policy_is_asked_as_its_method_asks_it(world_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of HIR are drawn under the good instruction and kept as answers to the prompt alone."""
    texts: list[str] = []
    original = Sampler.plan

    def spied(self: Sampler, requests: Any) -> Any:
        texts.extend(made.tokenizer.decode(request.ids) for request in requests)
        return original(self, requests)

    monkeypatch.setattr(Sampler, "plan", spied)
    for kind in (PlainTranscript, ChatTemplate):
        monkeypatch.setattr(kind, "said", lambda self, ids, text: f"said {text}")
    made = HIRModule(Backbone(str(world_model)), instructions=Instructions("<good>", "<bad>"))
    data = SyntheticDataModule(Preferences(size=20, held_out_size=4), batching=Batching(groups=3, tokens=10**9), seed=0)
    fit(made, data, callbacks=[resampling()], max_epochs=2, default_root_dir="run")
    assert len(texts) == 12
    assert all("<good>" in text and "<bad>" not in text for text in texts)
    assert "<good>" not in json.dumps([row["messages"] for row in rows(0) + rows(1)])
    assert all(text.startswith("said") for row in rows(0) + rows(1) for text in row["responses"])


def test_nothing_is_scored_twice(world_model: Path) -> None:
    scorer = Told()
    run(world_model, resampling(scorer))
    assert len(scorer.asked) == 2 * 6 * 4


def test_a_round_of_several_epochs(world_model: Path) -> None:
    log, _, _ = run(world_model, resampling(epochs=2), epochs=4)
    assert len(manifests()) == 2
    assert len(log.series("train/loss")) == 8


@pytest.mark.parametrize("selection", [BestOfN(), TopFraction(0.25)])
def test_raft(selection: Selection, world_model: Path) -> None:
    run(world_model, resampling(selection=selection), SFTModule)
    assert all(len(row["responses"]) == 1 for row in rows(0))
    [first, _] = manifests()
    assert first["metrics"]["gain"] > 0
    assert first["counts"] == {"prompts": 6, "samples": 24, "records": 6, "own": 6}


def test_pro_bootstraps_on_its_own_lists(world_model: Path) -> None:
    """Each list of the data grows by one sample, scored by the same reward."""
    run(
        world_model,
        resampling(
            GoldRewards(),
            AppendAndRerank(column=1),
            direction=Direction({"verbosity": 1.0}),
            generation=Generation(max_new_tokens=120, num_samples=1),  # so that some end by themselves
        ),
        SFTModule,
    )
    assert {len(row["responses"]) for row in rows(0)} == {3}
    assert {origin for row in rows(0) for origin in row["origins"]} == {"data", "policy@0"}
    assert all(row["origins"][0] == "data" for row in rows(0))


def test_rows_of_several_files_are_told_apart() -> None:
    """Rows without ids are called by their lines: two files of them were refused, and nothing said what to do."""
    asked = [
        Example(name, (Message("user", text),)) for name, text in (("line 1", "a"), ("line 2", "b"), ("line 1", "c"))
    ]
    found = told_apart(list(zip((1, 1, 2), asked, strict=True)))
    assert [e.id for e in found] == ["line 1 of source 1", "line 2", "line 1 of source 2"]
    with pytest.raises(ConfigError, match=r"2 rows of different prompts have one id \(line 1 of source 2\)"):
        told_apart(list(zip((2, 1, 2), asked, strict=True)))


def test_rounds_of_parts_go_through_all_prompts_once() -> None:
    """PRO's Algorithm 1: disjoint parts that hold everything, sizes at most one apart; the fifth round begins anew."""
    pool = [Example(f"e{n}", (Message("user", str(n)),)) for n in range(22)]
    made = RoundSettings(GoldRewards(), BestWorst(), Generation(num_samples=2), Direction(), parts=4)
    names = [[e.id for e in made.choose(pool, n)] for n in range(5)]
    assert sorted(name for part in names[:4] for name in part) == sorted(e.id for e in pool)
    assert sorted(map(len, names[:4])) == [5, 5, 6, 6]
    assert names[4] == names[0]
    assert made.fingerprint() != replace(made, parts=None).fingerprint() != replace(made, parts=5).fingerprint()
    for more, says in (
        ({"prompts": 6}, "parts 4 and prompts 6: set one of them to null"),
        ({"parts": 0}, "at least 1"),
    ):
        with pytest.raises(ConfigError, match=says):
            replace(made, **more)
    with pytest.raises(ConfigError, match="parts 4: the data has 3 different prompts"):
        made.choose(pool[:3], 0)


def test_replay_mixes_the_data_in(world_model: Path) -> None:
    run(world_model, resampling(replay=Replay(0.5)))
    kinds = [row["origins"][0] for row in rows(0)]
    assert kinds.count("data") == kinds.count("policy@0") > 0
    assert manifests()[0]["metrics"]["replay"] == 0.5


def test_every_round_may_begin_at_the_start(world_model: Path) -> None:
    """With a learning rate of 0 nothing moves; with one, the weights before a round's first step are the first ones."""
    seen = []

    class Watch(IterativeResampling):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
            if batch_idx:
                return
            seen.append(torch.cat([p.detach().flatten() for p in pl_module.parameters() if p.requires_grad]))
            assert not trainer.optimizers[0].state

    callback = resampling(restart=True)
    callback.__class__ = Watch
    _, module, _ = run(world_model, callback, epochs=3, lora=LoRA(r=2))
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], torch.cat([p.detach().flatten() for p in module.parameters() if p.requires_grad]))
    policies = {row.policy for row in RoundStore(Path("run/rounds/rounds.sqlite")).rounds()}
    assert len(policies) == 3  # but every round is sampled from what the one before has learnt


def test_a_round_by_another_version_of_the_scorer_is_told(tmp_path: Path) -> None:
    """Such as a function that was edited before the run was gone on with, between two rounds."""
    rounds = RoundFolder(tmp_path)
    rounds.store.begin(0, "weights", "settings")
    rounds.store.add(0, [StoredSample("a", 0, "h", [4], "a", "eos")])
    rounds.store.add_scores(0, [StoredSample("a", 0, "h", [4], "a", "eos", (1.0,))], "told before")
    plan = RoundPlan(1, RoundSettings(Told(), BestOfN(), Generation(), Direction()), [], "weights")
    with pytest.warns(UserWarning, match="round 1 is scored by another version of the scorer than round 0"):
        tell_other_scorer(rounds, plan)
    rounds.store.begin(1, "weights", "settings")
    rounds.store.add(1, [StoredSample("a", 0, "h", [4], "a", "eos")])
    rounds.store.add_scores(1, [StoredSample("a", 0, "h", [4], "a", "eos", (1.0,))], "told")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_other_scorer(rounds, replace(plan, number=2))


def test_a_score_does_not_hide_what_is_counted() -> None:
    """A sample of two tokens and reward 3, by a model whose outputs are called as what is told beside them."""
    example, stored = Example("a", (Message("user", "b"),)), StoredSample("a", 0, "h", [4, 5], "a", "eos")
    drawn = [PromptSamples(example, (ScoredSample(0, "a", "eos", (5.0, 7.0), 3.0),), ("reward", "length"))]
    own = [replace(example, id="a@0")]
    found = manifest(drawn, [stored], own, records=own, report=Report(read=1), seconds=0.0)["metrics"]
    assert {name: found[name] for name in ("reward", "length", "reward_score", "length_score")} == {
        "reward": 3.0,
        "length": 2.0,
        "reward_score": 5.0,
        "length_score": 7.0,
    }


class TestBadInput:
    def test_a_reward_that_is_no_number_is_counted(self, world_model: Path) -> None:
        run(world_model, resampling(Told(lambda text: math.nan if "a" in text else float(len(text)))))
        assert manifests()[0]["dropped"]["sample: no reward"] > 0

    def test_no_reward_at_all(self, world_model: Path) -> None:
        with pytest.raises(DataError, match=r"round 0 gives nothing to train on: .*24 sample: no reward"):
            run(world_model, resampling(Told(lambda text: math.nan)))

    def test_an_infinite_reward_is_told(self, world_model: Path) -> None:
        with pytest.raises(ModelError, match=r"Told: reward is inf for a response to '"):
            run(world_model, resampling(Told(lambda text: math.inf)))

    def test_a_constant_reward_trains_nothing(self, world_model: Path) -> None:
        with pytest.raises(DataError, match=r"6 rewards too close: draw more \(generation.num_samples"):
            run(world_model, resampling(Told(lambda text: 1.0)))

    def test_a_policy_that_never_stops(self, world_model: Path) -> None:
        with pytest.raises(DataError, match=r"cut off at its limit.*: raise generation.max_new_tokens"):
            run(
                world_model,
                resampling(missing_eos_penalty=None, generation=Generation(max_new_tokens=1, num_samples=2)),
            )

    def test_prompts_without_room(self, world_model: Path) -> None:
        with pytest.raises(DataError, match=r"leaves beside generation.max_new_tokens 250: lower it"):
            run(world_model, resampling(generation=Generation(max_new_tokens=250, num_samples=2)))

    def test_responses_longer_than_all_there_is(self, world_model: Path) -> None:
        with pytest.raises(DataError, match=r"max_new_tokens 256 leaves nothing for prompts of the 256 tokens"):
            run(world_model, resampling(generation=Generation(max_new_tokens=256, num_samples=2)))

    def test_a_sample_alone_makes_no_pair(self) -> None:
        with pytest.raises(ConfigError, match=r"selection BestWorst compares .*num_samples is 1: set it to 2 or more"):
            resampling(generation=Generation(max_new_tokens=4))

    def test_unknown_attribute(self, world_model: Path) -> None:
        with pytest.raises(ConfigError, match="direction names 'wit', the scorer has reward"):
            run(world_model, resampling(direction=Direction({"wit": 1.0})))

    def test_a_reward_model_is_no_policy(self, world_model: Path) -> None:
        with pytest.raises(ConfigError, match="needs a policy"):
            run(world_model, resampling(), RewardModel)

    def test_other_weights_do_not_finish_a_round(self, world_model: Path) -> None:
        store = RoundStore(Path("run/rounds/rounds.sqlite"))
        store.begin(0, "other weights", "x")
        store.close()
        with pytest.raises(ResumeError, match=r"round 0 .* was begun with other weights"):
            run(world_model, resampling())
