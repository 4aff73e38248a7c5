"""Callbacks and verbs ask a policy as its method or folder says, and read reward models as far as told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from align.activations.artefact import VectorNote, save_vectors
from align.callbacks.evaluation import RewardEvaluation
from align.callbacks.gold import GoldEvaluation
from align.callbacks.hf_export import HFExport
from align.cli.main import main
from align.data.synthetic import SyntheticDataModule
from align.errors import ConfigError
from align.evaluation.fronts import read_front
from align.models.asked import asking_of, vectors_of
from align.models.backbone import Backbone
from align.models.condition_file import write_condition_file
from align.modules.hir import HIRModule
from align.modules.sft import SFTModule
from align.records import Instructions, Message
from align.records.asking import Ask
from align.sampling.generation import Generation
from align.world.preferences import Preferences
from tests.cli.things import TEMPLATE, lines
from tests.modules.fitting import fit, pairs_data
from tests.rounds.runs import world_model
from tests.tiny import save_reward_model, save_tiny

__all__ = ["world_model"]
HI = (Message("user", "Hi"),)


def test_gold_rewards_of_hir_are_those_of_its_good_instruction(
    world_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def spied(model: Any, tokenizer: Any, world: Any, prompts: Any, **options: Any) -> Any:
        asked.append((prompts, options["asked"]))
        return evaluate(model, tokenizer, world, prompts, **options)

    from align.callbacks import gold

    evaluate = gold.evaluate_gold
    monkeypatch.setattr(gold, "evaluate_gold", spied)
    texts = Instructions("<good>", "<bad>")
    module = HIRModule(Backbone(str(world_model)), instructions=texts)
    few = Generation(max_new_tokens=4, num_samples=1)
    data = SyntheticDataModule(Preferences(size=8, held_out_size=4), seed=0)
    fit(module, data, callbacks=[GoldEvaluation(2, 1, generation=few)], default_root_dir="run")
    assert asked[0][1] is None  # the base
    assert len(asked) > 1
    for prompts, put in asked[1:]:
        assert put == [texts.apply(prompt, "positive") for prompt in prompts]
    rows = [json.loads(line) for line in Path("run/gold.jsonl").read_text().splitlines()]
    assert ["asked" in row for row in rows] == [False, *[True] * (len(rows) - 1)]


def test_what_an_export_was_told_to_ask_is_kept_beside_the_method(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    vector = torch.linspace(-1, 1, 32)
    save_vectors(tmp_path / "v.safetensors", {"mean": vector[None]}, VectorNote((1,), "a - b"))
    ask = Ask(system="Be brief.", steer=str(tmp_path / "v.safetensors"), coefficient=0.5)
    module = HIRModule(Backbone(str(model_folder)), instructions=Instructions("Be good.", "Be bad."))
    fit(module, pairs_data(pairs_file), callbacks=[HFExport(ask=ask)], max_steps=1, default_root_dir="run")
    (tmp_path / "v.safetensors").unlink()
    found = asking_of("run/model")
    assert found.apply(HI) == (Message("system", "Be brief."), Message("user", "Be good.\n\nHi"))
    assert found.steer is not None
    assert found.steer.coefficient == 0.5
    assert torch.equal(vectors_of(found.steer)[1], vector)


def test_pareto_asks_a_model_that_has_no_directions_as_its_folder_says(tmp_path: Path) -> None:
    for name in ("hir", "base"):
        save_tiny(tmp_path / name, template=TEMPLATE, initializer_range=0.7)
    write_condition_file(Instructions("Be good.", "Be bad."), tmp_path / "hir")
    save_reward_model(tmp_path / "rm", outputs=("a", "b"))
    lines(tmp_path / "p.jsonl", [{"prompt": f"Tell me {n}", "completion": "c"} for n in range(3)])
    words = ["front", "compare", "--models.usual", "hir", "--models.bare.path", "hir", "--models.bare.plain", "true"]
    words += ["--models.base", "base", "--prompts", "p.jsonl", "--attributes", "[a,b]", "--out", "out"]
    words += ["--scorer", "RewardFolder", "--scorer.path", "rm"]
    assert main([*words, "--generation.max_new_tokens", "4", "--generation.num_samples", "1"]) == 0
    usual, bare, base = (read_front(path) for path in sorted(Path("out/fronts").iterdir()))
    assert [front.points[0].label for front in (usual, bare, base)] == [
        "under the positive instruction",
        "plain",
        "as it is",
    ]
    assert bare.rewards.tolist() == base.rewards.tolist() != usual.rewards.tolist()


class TestHowFarRewardModelsRead:
    LONG = "x" * 60

    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        save_tiny(tmp_path / "model", template=TEMPLATE, initializer_range=0.7)
        save_reward_model(tmp_path / "rm")
        return lines(tmp_path / "p.jsonl", [{"prompt": f"{n} {self.LONG}", "completion": "c"} for n in range(4)])

    def test_in_training(self, run: Path) -> None:
        few = Generation(max_new_tokens=4, temperature=0.0)
        with pytest.raises(
            ConfigError, match=r"reward_tokens\.rn: expected the name of one of the reward models \(rm\)"
        ):
            RewardEvaluation({"rm": "rm"}, 4, few, reward_tokens={"rn": 30})
        found = {}
        for limit in (None, 30, {"rm": 30}):
            callback = RewardEvaluation({"rm": "rm"}, 4, few, reward_tokens=limit)
            pairs = lines(
                Path("c.jsonl"), [{"prompt": f"{n} {self.LONG}", "chosen": "c", "rejected": "d"} for n in range(8)]
            )
            from align.data.splits import Splits

            data = pairs_data(pairs, splits=Splits(0.5))
            fit(SFTModule(Backbone("model")), data, callbacks=[callback], max_steps=1, default_root_dir=f"run{limit}")
            (oracle,) = callback._scorers.values()
            first = json.loads(Path(f"run{limit}/rewards.jsonl").read_text().splitlines()[0])
            found[str(limit)] = (oracle.max_tokens, oracle.cut > 0, first["rm"])
        assert found["30"] == found["{'rm': 30}"]
        assert found["30"][:2] == (30, True)
        assert found["None"][:2] == (512, False)
        assert found["None"][2] != found["30"][2]

    @pytest.mark.parametrize("verb", ["benchmark probe", "steer sweep"])
    def test_of_a_verb(self, verb: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        save_vectors(tmp_path / "v.safetensors", {"mean": torch.ones(1, 32)}, VectorNote((1,), "a - b"))
        grid = {"template": f"{{value}} {self.LONG}{{context}}", "values": ["a", "b"], "contexts": ["1", "2"]}
        own = {
            "benchmark probe": ("--grid", json.dumps(grid), "--rewards.rm", "rm"),
            "steer sweep": (
                "--steer",
                "v.safetensors",
                "--prompts",
                "p.jsonl",
                "--rewards",
                "[rm]",
                "--coefficients",
                "[0]",
            ),
        }[verb]
        words = [*verb.split(), "--model.path", "model", *own, "--generation.max_new_tokens", "4", "--out", "o.json"]
        for limit, count in (("--reward_tokens", "30"), ("--reward_tokens.rm", "30")):
            assert main([*words, limit, count]) == 0
            assert "are longer than 30 tokens" in capsys.readouterr().out
        assert main([*words, "--reward_tokens.other", "30"]) == 2
        assert "reward_tokens.other: expected the name of one of the reward models (rm)" in capsys.readouterr().err
