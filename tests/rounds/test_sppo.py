"""SPPO as its paper runs it: win rates over all samples, rounds against the policy before, a judge that goes down."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file

from align.cli.main import main
from align.data.batching import Batching
from align.data.drop_report import Report
from align.data.synthetic import SyntheticDataModule
from align.data.win_rate_rows import WinRateRows
from align.errors import ConfigError
from align.judges.win_rates import ScorerJudge, WinRates
from align.models.backbone import Backbone, LoRA
from align.models.references import PreviousRound
from align.modules.dpo import DPOModule
from align.objectives.scored import SPPO
from align.records import Example, Message
from align.rewards.gate import Gate
from align.rewards.scorers import Direction
from align.rounds.round_store import RoundStore
from align.training.optimizer import Optimizer
from align.world.preferences import Preferences
from tests.judges.answering import answering
from tests.modules.fitting import fit
from tests.resume.runs import KILLED, Run
from tests.rounds.runs import command, world_model
from tests.rounds.test_kills import NINE, check, killing
from tests.rounds.test_round_loader import Told, resampling, rows
from tests.test_configs import ROOT

__all__ = ["world_model"]


class Watch(Callback):
    """Keeps the policy as each round begins, and the reference it is trained against."""

    def __init__(self) -> None:
        self.policies: list[dict[str, torch.Tensor]] = []
        self.references: list[dict[str, torch.Tensor]] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx:
            return
        trained = {n: p for n, p in pl_module.model.named_parameters() if p.requires_grad}
        self.policies.append({n: p.detach().clone() for n, p in trained.items()})
        own = dict(pl_module.reference_model.named_parameters())
        self.references.append({n: own[n].detach().clone() for n in trained})
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def sppo(folder: Path, watch: Watch, **options: Any) -> None:
    data = SyntheticDataModule(Preferences(size=20, held_out_size=4), batching=Batching(groups=3, tokens=10**9), seed=0)
    scorer = WinRates(ScorerJudge(Told(lambda text: len(text) / 10), graded=True))
    optimizer = Optimizer(learning_rate=1e-2, warmup_steps=2)
    module = DPOModule(
        Backbone(str(folder), **options), objective=SPPO(0.1), reference=PreviousRound(), optimizer=optimizer
    )
    callback = resampling(scorer, fresh_optimizer=True)
    fit(module, data, callbacks=[callback, watch], max_epochs=3, limit_val_batches=0, default_root_dir="run")


@pytest.mark.parametrize("lora", [None, LoRA(r=2)], ids=["full", "lora"])
def test_three_rounds(lora: LoRA | None, world_model: Path) -> None:
    """Win rates are those of the stored texts by hand; every round trains against the policy it began with."""
    watch = Watch()
    sppo(world_model, watch, **({} if lora is None else {"lora": lora}))
    assert len(watch.policies) == 3
    for policy, reference in zip(watch.policies, watch.references, strict=True):
        for name in policy:
            torch.testing.assert_close(reference[name], policy[name], rtol=0, atol=0)
    assert any(not torch.equal(watch.policies[0][n], watch.policies[1][n]) for n in watch.policies[0])
    assert watch.rates[0] == watch.rates[1] == watch.rates[2] < 1e-2  # each warms up anew
    store = RoundStore(Path("run/rounds/rounds.sqlite"))
    for number in range(3):
        samples = store.samples(number)
        by_prompt: dict[str, list[Any]] = {}
        for sample in samples:
            by_prompt.setdefault(sample.prompt, []).append(sample)
        assert {len(group) for group in by_prompt.values()} == {4}
        for group in by_prompt.values():
            for one in group:
                chances = [1 / (1 + math.exp((len(other.text) - len(one.text)) / 10)) for other in group]
                assert one.scores == (pytest.approx(sum(chances) / 4),)
        for row in rows(number):
            best, worst = (s[0] for s in row["scores"])
            assert 1 > best > 0.5 > worst > 0
    assert {p.name for p in Path("run/rounds").glob("start-*")} == {"start-0001.safetensors", "start-0002.safetensors"}
    kept = load_file("run/rounds/start-0002.safetensors")
    assert all(torch.equal(kept[f"model.{n}"], p) for n, p in watch.policies[2].items())


def test_restart_and_previous_round_exclude_each_other(world_model: Path) -> None:
    data = SyntheticDataModule(Preferences(size=20, held_out_size=4), batching=Batching(groups=3, tokens=10**9), seed=0)
    module = DPOModule(Backbone(str(world_model)), objective=SPPO(0.1), reference=PreviousRound())
    with pytest.raises(ConfigError, match="PreviousRound is the start where rounds restart"):
        fit(module, data, callbacks=[resampling(restart=True)], max_epochs=1, default_root_dir="run")
    with pytest.raises(ConfigError, match="leave fresh_optimizer out"):
        resampling(restart=True, fresh_optimizer=True)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"missing_eos_penalty": 1.0}, "missing_eos_penalty 1 would be taken off win rates"),
        ({"direction": Direction({"win_rate": 0.5})}, "direction would make something else of win rates"),
        ({"direction": Direction(gates=(Gate("win_rate", 0.5),))}, "direction would make something else of win rates"),
    ],
)
def test_what_is_no_win_rate_any_more_is_refused_at_the_start(
    options: dict[str, Any], line: str, world_model: Path
) -> None:
    """It was a traceback in the middle of training, or half of every target in silence."""
    data = SyntheticDataModule(Preferences(size=20, held_out_size=4), batching=Batching(groups=3, tokens=10**9), seed=0)
    scorer = WinRates(ScorerJudge(Told()))
    callback = resampling(scorer, **options)
    with pytest.raises(ConfigError, match=line):
        fit(DPOModule(Backbone(str(world_model)), objective=SPPO()), data, callbacks=[callback], default_root_dir="run")
    assert not Path("run/rounds/rounds.sqlite").exists()


def letter(body: dict[str, Any]) -> str:
    """Reply in thoughts and a letter: what is shown first is better where it is longer."""
    words = body["messages"][-1]["content"]
    a, b = (len(words.split(f"Response {name}:")[1].split("</data")[0]) for name in "AB")
    return f"<think>\nB\n</think>\nComparison: one is longer.\n{'A' if a > b else 'B'}"


@pytest.mark.slow
def test_a_judge_that_goes_down_is_asked_nothing_twice(
    world_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run pauses by name and count; the same command goes on with the missing replies, and trains."""
    words = command(world_model, "--trainer.max_epochs", "1", "--trainer.default_root_dir", str(tmp_path / "run"))
    place = words.index("--trainer.callbacks.scorer")
    ours = "--trainer.callbacks.scorer"
    words[place : place + 2] = [ours, "WinRates", f"{ours}.judge", "LanguageJudge"]
    first = words.index(f"{ours}.judge") + 2
    with answering(letter, last=30) as server:
        responder = f"{ours}.judge.responder"
        words[first:first] = [
            *(responder, "Endpoint", f"{responder}.base_url", server.url, f"{responder}.model", "judge-1"),
            *(f"{responder}.api_key_env", "null", f"{responder}.patience", "{timeout: 4, deadline: 5}"),
        ]
        words[words.index("{weights: {verbosity: -1.0}}")] = "{weights: {win_rate: 1.0}}"
        assert main(words) == 75
        said = capsys.readouterr().err
        assert "the service does not answer: status 503" in said
        assert "30 of " in said
        server.last = None
        assert main(words) == 0, capsys.readouterr().err
        asked = [body["messages"][-1]["content"].split("<data-")[1:] for body in server.bodies]
        plain = [tuple(part.split(">", 1)[1].split("</data")[0] for part in parts) for parts in asked]
        assert len(plain) == len(set(plain)) > 30
    replies = sqlite3.connect("runs/judge.sqlite").execute("SELECT count(*) FROM judge_reply").fetchone()[0]
    assert replies == server.replied == len(plain)
    (manifest,) = [row.manifest for row in RoundStore(tmp_path / "run/rounds/rounds.sqlite").rounds()]
    assert manifest["scorer"]["invalid_replies"] == {}
    assert manifest["scorer"]["answered_by"] == {"judge-1": len(plain)}


def test_fragment(world_model: Path, tmp_path: Path) -> None:
    configs = [
        str(ROOT / "configs" / name) for name in ("method/sppo.yaml", "trainer/cpu.yaml", "callbacks/sppo_rounds.yaml")
    ]
    words = ["fit", *(word for path in configs for word in ("-c", path)), "--data", "SyntheticDataModule"]
    words += ["--data.preferences.size", "8", "--data.preferences.held_out_size", "2", "--trainer.max_epochs", "2"]
    words += ["--model.backbone.path", str(world_model), "--trainer.default_root_dir", str(tmp_path / "run")]
    words += ["--trainer.callbacks.generation.max_new_tokens", "6"]
    assert main(words) == 0
    assert (tmp_path / "run/model/config.json").exists()


@pytest.mark.slow
def test_kills_in_later_rounds_change_nothing(tmp_path: Path, world_model: Path) -> None:
    """In sampling, scoring and training of the second and third round: same weights, samples and win rates."""
    rates = ["--trainer.callbacks.scorer", "WinRates", "--trainer.callbacks.scorer.judge", "ScorerJudge"]
    rates += [
        "--trainer.callbacks.scorer.judge.scorer",
        "GoldRewards",
        "--trainer.callbacks.scorer.judge.graded",
        "true",
    ]
    rates += ["--trainer.callbacks.scorer.judge.direction.weights", "{verbosity: -1.0}"]
    rates += ["--trainer.callbacks.direction.weights", "null", "--trainer.callbacks.fresh_optimizer", "true"]
    rates += ["--model.reference", "PreviousRound", "--trainer.limit_val_batches", "0"]
    rates += ["--trainer.callbacks.missing_eos_penalty", "0.0"]  # win rates stay in [0, 1]
    arguments = command(world_model, *rates, method="sppo")
    whole, cut = Run(tmp_path / "whole", arguments), Run(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    journal = tmp_path / "journal"
    assert cut(("batch_end", 8, NINE), killing(journal, "", 0)) == KILLED, cut.log
    assert cut(prepare=killing(journal, "before add_scores", 1)) == KILLED, cut.log
    assert cut(("batch_start", 2, NINE), killing(journal, "", 0)) == KILLED, cut.log
    assert cut() == 0, cut.log
    check(whole, cut, journal)


@pytest.mark.parametrize("attributes", [("one", "two"), ()])
def test_validation_rows_with_several_scores_or_none(attributes: tuple[str, ...]) -> None:
    """They get the win rates of their order, under the name that rounds give theirs."""
    scores = tuple((float(n),) * len(attributes) for n in range(2)) if attributes else ()
    row = Example("x", (Message("user", "q"),), ("a", "b"), attributes, scores, ranking=((1,), (0,)))
    groups = WinRateRows().apply([row], Report())
    assert [(g.attributes, g.scores) for g in groups] == [(("reward",), ((0.25,),)), (("reward",), ((0.75,),))]
    assert DPOModule(Backbone("x"), objective=SPPO()).view == "win_rates"
    assert DPOModule(Backbone("x"), objective=SPPO(), attribute="rate").view == "regression"
