"""A reward model folder that is replaced while a run goes on: which model scores which round."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from align.cli.main import main
from align.errors import ConfigError, ModelError
from align.models.backbone import Backbone
from align.models.folder_checks import folder_hash
from align.models.model_export import export_model
from align.modules.reward_model import RewardModel
from align.records import Message
from align.rewards.ensemble import RewardEnsemble
from align.rewards.refreshed_folder import RefreshedRewardFolder
from align.rewards.scorers import GoldRewards, RewardFolder
from tests.resume.runs import Run
from tests.rounds.runs import command, world_model
from tests.rounds.test_pool import EVERY

__all__ = ["world_model"]
ASKED = [(Message("user", "hello"),)] * 2, ["a", "longer than that"]


def exported(base: Path, folder: Path, seed: int, attributes: Sequence[str] | None = None) -> Path:
    torch.manual_seed(seed)
    module = RewardModel(Backbone(str(base)), **({"attributes": list(attributes)} if attributes else {}))
    module.build_model()
    with torch.no_grad():
        module.model.score.weight.normal_()
    export_model(module.model, module.tokenizer, folder)
    return folder


def test_scores_are_those_of_the_model_that_lies_there(
    tmp_path: Path, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = (exported(model_folder, tmp_path / str(seed), seed) for seed in (1, 2))
    link = tmp_path / "rm"
    link.symlink_to(one)
    scorer = RefreshedRewardFolder(str(link))
    both = RewardEnsemble({"new": scorer, "gold": GoldRewards()}, "apart")
    both.refresh()
    lasting, kept = both.lasting_identity, scorer.oracle
    first = scorer.score(*ASKED)
    assert torch.equal(first, RewardFolder(str(one)).score(*ASKED))
    both.refresh()
    assert scorer.oracle is kept  # nothing is read again where nothing changed
    link.unlink()
    link.symlink_to(two)
    assert torch.equal(scorer.score(*ASKED), first)  # the round that is being scored stays with its model
    with caplog.at_level("INFO"):
        both.refresh()
    assert f"now: {folder_hash(one)[:12]} before, {folder_hash(two)[:12]} from here on" in caplog.text
    assert torch.equal(scorer.score(*ASKED), RewardFolder(str(two)).score(*ASKED))
    assert scorer.report() == {"reward_model": str(link), "hash": folder_hash(two)}
    assert both.lasting_identity == lasting


def test_what_cannot_be_read_is_refused(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = exported(model_folder, tmp_path / "rm", 1)
    scorer = RefreshedRewardFolder(str(folder))
    scorer.refresh()
    config = folder / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "id2label": {"0": "other"}, "label2id": {"other": 0}}))
    with pytest.raises(ModelError, match="other outputs: other, expected reward"):
        scorer.refresh()
    monkeypatch.setattr(RefreshedRewardFolder, "ready", lambda self: config.write_text(json.dumps(told) + " "))
    with pytest.raises(ModelError, match="was written to while it was read"):
        RefreshedRewardFolder(str(folder)).refresh()
    with pytest.raises(ConfigError, match="a folder that may be replaced, got org/rm"):
        RefreshedRewardFolder("org/rm").refresh()


def test_every_round_says_which_model_scored_it(
    tmp_path: Path, world_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is replaced while the second of three rounds is drawn: it and the third are scored by the newer."""
    one, two = (exported(world_model, tmp_path / str(seed), seed) for seed in (1, 2))
    link = tmp_path / "rm"
    link.symlink_to(one)

    def replaced_in_the_second_round() -> None:
        from align.rounds.round_store import RoundStore

        add: Any = RoundStore.add

        def adding(self: RoundStore, number: int, samples: Any) -> None:
            if number == 1 and link.resolve() == one:
                link.unlink()
                link.symlink_to(two)
            add(self, number, samples)

        RoundStore.add = adding  # type: ignore[method-assign]

    given = command(world_model, method="grpo", selection=EVERY)
    given[given.index("align.rewards.scorers.GoldRewards")] = "RefreshedRewardFolder"
    given[given.index("{weights: {verbosity: -1.0}}")] = "{weights: null}"
    run = Run(tmp_path / "run", [*given, "--trainer.callbacks.scorer.path", str(link)])
    assert run(prepare=replaced_in_the_second_round) == 0, run.log
    with sqlite3.connect(run.root / "rounds" / "rounds.sqlite") as db:
        rows = db.execute("SELECT number, manifest FROM round ORDER BY 1").fetchall()
        scorers = db.execute("SELECT DISTINCT round, scorer FROM sample ORDER BY 1").fetchall()
    old, new = folder_hash(one), folder_hash(two)
    assert [json.loads(text)["scorer"]["hash"] for _, text in rows] == [old, new, new]
    assert scorers == [(0, old), (1, new), (2, new)]
    assert main(["show", str(run.root)]) == 0
    assert f"round 2: scored by {link}, {new[:12]}" in capsys.readouterr().out
