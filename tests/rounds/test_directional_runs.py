"""A run of DPA by one command: what its rounds ask and choose, its schedule, and kills that change nothing."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from align.cli.main import main
from align.records.reward_directions import unit
from align.rounds.round_store import RoundStore
from tests.resume.runs import KILLED, Run, same
from tests.rounds.runs import world_model
from tests.rounds.test_kills import killing, stored
from tests.test_configs import CPU, ROOT

__all__ = ["world_model"]


def command(model: Path, *more: str) -> list[str]:
    """A SteerLM round and two of DPA: six prompts a half, two samples under each of two conditions."""
    configs = ("method/dpa.yaml", "data/synthetic.yaml", "callbacks/dpa_synthetic.yaml")
    return [
        *("fit", *(word for name in configs for word in ("-c", str(ROOT / "configs" / name))), "-c", CPU),
        *("--data.preferences.size", "40", "--data.preferences.held_out_size", "4", "--data.world.harmful_share", "0"),
        *("--data.batching.groups", "8", "--model.backbone.path", str(model)),
        *("--model.optimizer.learning_rate", "1e-2", "--trainer.max_epochs", "3", "--trainer.limit_val_batches", "0"),
        *("--trainer.callbacks.prompts", "6", "--trainer.callbacks.conditions.directions", "3"),
        *("--trainer.callbacks.conditions.targets", "3"),
        *("--trainer.callbacks.generation", "{max_new_tokens: 24, num_samples: 3, batch_tokens: 400}"),
        *(
            "--trainer.callbacks+",
            "align.callbacks.checkpoint.Checkpoint",
            "--trainer.callbacks.every_n_steps",
            "2",
            *more,
        ),
    ]


def rows(run: Path, number: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "rounds" / f"round-{number:04d}.jsonl").read_text().splitlines()]


def own(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if "@" in row["id"]]


@pytest.fixture
def finished(tmp_path: Path, world_model: Path) -> Path:
    assert main([*command(world_model), "--trainer.default_root_dir", str(tmp_path / "run")]) == 0
    return tmp_path / "run"


def test_a_run_by_one_command(finished: Path, world_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is trained on, where each round starts, what the folders say, and how they are asked."""
    records = [rows(finished, n) for n in range(3)]
    prompts = [{row["id"].split("@")[0] for row in part} for part in records]  # replay included
    assert not prompts[0] & prompts[1]
    assert not prompts[1] & prompts[2]
    for row in records[0]:
        said = row["messages"][0]["content"].split()
        assert said.count("verbosity") == int(12 * min(row["scores"][0][1], 100) / 100 + 0.5 + 1e-9)
        assert row["origins"] == ["data"]
    for row in own(records[1]) + own(records[2]):
        angle = row["scores"][0][row["attributes"].index("angle")]
        said = row["messages"][0]["content"].split()
        assert (len(said), set(said) <= {"helpfulness", "verbosity"}) == (12, True)
        assert -45 * said.count("verbosity") / 12 == pytest.approx(angle, abs=45 / 24 + 1e-9)
    for part in records[1:]:
        replayed = [row for row in part if "@" not in row["id"]]
        wanted = round(len(own(part)) * 0.15 / 0.85)
        assert len(replayed) == min(wanted, 20)
        assert all(row["messages"][0]["role"] == "user" for row in replayed)
    brute_force_pools(finished, records[2])
    start = load_file(finished / "rounds" / "start.safetensors")
    weights = AutoModelForCausalLM.from_pretrained(world_model).state_dict()
    assert all(torch.equal(values, weights[name.removeprefix("model.")]) for name, values in start.items())
    asked = [json.loads((finished / p / "conditions.json").read_text())["asks"] for p in FOLDERS]
    assert asked == ["ratings", "direction", "direction"]
    folders_are_asked(finished, capsys)


FOLDERS = ("rounds/model-0000", "rounds/model-0001", "model")


def brute_force_pools(run: Path, records: list[dict[str, Any]]) -> None:
    """Every record's response is the best stored sample of its prompt in its direction."""
    store = RoundStore(run / "rounds" / "rounds.sqlite")
    samples = [s for s in store.samples(2) if s.finish != "length" and s.text.strip()]
    for row in own(records):
        name, values = row["id"].split("@")[0], dict(zip(row["attributes"], row["scores"][0], strict=True))
        pool = [s for s in samples if s.prompt.rsplit(" ", 1)[0] == name]
        worth = [float(np.dot(unit(values["angle"]), s.scores or ())) for s in pool]
        assert values["reward"] == pytest.approx(max(worth))
        assert row["responses"][0] in {
            s.text.strip() for s, w in zip(pool, worth, strict=True) if w > max(worth) - 1e-9
        }


def folders_are_asked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(folder: str, *words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["generate", "--model.path", folder, "--prompt", "Tell me about the karon.", *words])
        return code, capsys.readouterr().err

    model, rated = str(run / "model"), str(run / FOLDERS[0])
    code, error = told(model, "--angle", "-37", "--generation.max_new_tokens", "4")
    assert code == 0
    assert f"asked for: {'helpfulness ' * 2}{'verbosity ' * 10}".strip() in error  # 8 of 45 degrees, of 12 words
    assert "warning" not in error
    code, error = told(model, "--direction", "0.2,-0.9", "--generation.max_new_tokens", "4")
    assert code == 0
    assert "warning: angle -77.5 lies outside the arc [-45, 0]" in error
    assert "trained on prompts that ask for ratings: give --ratings" in told(rated, "--angle", "0")[1]
    assert f"asked for: {'helpfulness ' * 10}verbosity verbosity" in told(rated, "--ratings", "80,20")[1]
    assert "expected points for" in told(rated, "--ratings", "80")[1]
    assert "give one of them" in told(model, "--angle", "0", "--direction", "1,0")[1]
    (run / "model" / "conditions.json").unlink()
    assert "no conditions.json, so this model was not trained under directions" in told(model, "--angle", "0")[1]


def test_the_schedule_is_that_of_a_round(finished: Path) -> None:
    from tests.test_configs import scalars

    rates = scalars(finished, "train/lr")
    expected = [lr for number in range(3) for lr in cosine(-(-len(rows(finished, number)) // 8))]
    assert rates == pytest.approx(expected, abs=1e-8)


def cosine(steps: int, peak: float = 1e-2) -> list[float]:
    """A tenth of the steps up from 0, then half a cosine down."""
    warm = round(0.1 * steps)
    down = [0.5 * (1 + math.cos(math.pi * i / (steps - warm))) for i in range(steps - warm)]
    return [peak * share for share in (*(i / warm for i in range(warm)), *down)]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["sampling", "training"])
def test_a_killed_run_ends_with_the_same_weights(moment: str, tmp_path: Path, world_model: Path) -> None:
    """Killed while round 1 is sampled, or inside its training: same records, samples and weights, to the bit."""
    whole, cut = Run(tmp_path / "whole", command(world_model)), Run(tmp_path / "cut", command(world_model))
    assert whole() == 0, whole.log
    journal = tmp_path / "journal"
    if moment == "sampling":
        assert cut(prepare=killing(journal, "after add", 4)) == KILLED, cut.log
    else:
        steps = -(-len(rows(whole.root, 0)) // 8)
        assert cut(("before_step", steps + 4, int(signal.SIGKILL))) == KILLED, cut.log
    assert cut() == 0, cut.log
    same(whole, cut)
    assert stored(whole) == stored(cut)
    for number in range(3):
        assert rows(whole.root, number) == rows(cut.root, number)
    models = [[(r.root / folder / "model.safetensors").read_bytes() for folder in FOLDERS] for r in (whole, cut)]
    assert models[0] == models[1]


def test_conditions_need_their_module(tmp_path: Path, world_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = ["--model", "SFTModule", "--model.backbone.path", str(world_model)]  # another class takes nothing over
    assert main([*command(world_model), *other, "--trainer.default_root_dir", str(tmp_path / "run")]) == 2
    assert "conditions needs DPARSFModule" in capsys.readouterr().err


def test_attributes_the_scorer_lacks(tmp_path: Path, world_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = [
        "--model.conditioning.attributes",
        "[helpfulness, wit]",
        "--trainer.default_root_dir",
        str(tmp_path / "run"),
    ]
    assert main([*command(world_model), *more]) == 2
    assert "conditioning.attributes names 'wit', the scorer has helpfulness, verbosity" in capsys.readouterr().err
