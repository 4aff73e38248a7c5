"""Samples as they are trained on, in tensorboard, the run folder and the report: their numbers are those of the step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from align.callbacks.rollout_table import RolloutTable
from align.cli.main import main
from align.data.batching import Batching
from align.data.synthetic import SyntheticDataModule
from align.errors import ConfigError
from align.evaluation.report_inputs import gather
from align.evaluation.run_report import sections
from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from align.modules.ppo import PPOModule
from align.world.preferences import Preferences
from tests.modules.fitting import fit
from tests.rounds.runs import command, world_model
from tests.rounds.test_online import grpo, rounds

__all__ = ["world_model"]
MORE = (
    "--model.objective.beta",
    "0.1",
    "--trainer.callbacks+",
    "RolloutTable",
    "--trainer.callbacks.every_n_steps",
    "2",
)


def tables(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    return [line for line in lines if line["name"] == "rollouts"]


def test_rewards_advantages_and_divergences_are_those_of_the_step(world_model: Path) -> None:
    """The whole step is shown: GRPO's advantage by hand from the rewards shown, the mean KL as the curve has it."""
    words = command(
        world_model,
        "--trainer.callbacks.prompts",
        "4",
        method="grpo",
        selection="align.rounds.every_sample.EverySample",
    )
    many = ("--trainer.callbacks.num_prompts", "4", "--trainer.callbacks.num_samples", "9")
    assert main([*words, *MORE, *many, "--trainer.default_root_dir", "run"]) == 0
    found = tables(Path("run"))
    assert [table["step"] for table in found] == [0, 2]
    metrics = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    kl = {row["step"]: row["train/kl"] for row in metrics if "train/kl" in row}
    for table in found:
        columns = table["columns"]
        assert columns == ["prompt", "response", "reward", *columns[3:-3], "finished", "advantage", "kl"]
        assert "verbosity" in columns
        rows = [dict(zip(columns, row, strict=True)) for row in table["rows"]]
        assert len(rows) == 16
        for first in range(0, 16, 4):
            group = rows[first : first + 4]
            assert len({row["prompt"] for row in group}) == 1
            rewards = [float(row["reward"]) for row in group]
            mean = sum(rewards) / 4
            deviation = (sum((r - mean) ** 2 for r in rewards) / 3) ** 0.5
            expected = [(r - mean) / (deviation + 1e-4) for r in rewards]
            assert [float(row["advantage"]) for row in group] == pytest.approx(expected, abs=2e-3)
        lengths = [len(row["response"].split()) for row in rows]
        mean = sum(float(row["kl"]) * n for row, n in zip(rows, lengths, strict=True)) / sum(lengths)
        assert mean == pytest.approx(kl[table["step"]], rel=0.02, abs=1e-6)
    (shown,) = [part for part in sections(gather(["run"]), 2) if part.title == "Samples that were trained on"]
    assert shown.tables[0].rows == found[-1]["rows"]


def run(module: Any, table: RolloutTable) -> list[str]:
    """Train two steps and return the tables in tensorboard."""
    data = SyntheticDataModule(Preferences(size=20, held_out_size=4), batching=Batching(groups=3), seed=0)
    logger, callbacks = TensorBoardLogger("log", name="", version=""), [rounds(prompts=3), table]
    fit(module, data, callbacks=callbacks, max_epochs=2, default_root_dir="run", logger=logger)
    events = EventAccumulator("log").Reload()
    if "rollouts/text_summary" not in events.Tags()["tensors"]:
        return []
    return [event.tensor_proto.string_val[0].decode() for event in events.Tensors("rollouts/text_summary")]


def test_a_table_is_bounded_and_can_be_left_out(world_model: Path) -> None:
    (text,) = run(grpo(world_model), RolloutTable(2, num_prompts=1, num_samples=3, max_characters=5))
    header, _, *rows = text.split("\n")
    assert header.endswith("| finished | advantage | kl |")
    assert len(rows) == 3
    for row in rows:
        prompt, response = row.split(" | ")[:2]
        assert "characters before" in prompt
        assert "characters more" in response
    assert run(grpo(world_model), RolloutTable(None)) == [text]


def test_advantages_of_ppo_are_means_over_tokens(world_model: Path) -> None:
    (text,) = run(PPOModule(Backbone(str(world_model))), RolloutTable(2, num_prompts=3, num_samples=8))
    rows = [row.removesuffix(" |").split(" | ") for row in text.split("\n")[2:]]
    assert len(rows) == 24
    weights = [len(row[1].split()) for row in rows]
    total = sum(float(row[-2].replace("&#45;", "-")) * n for row, n in zip(rows, weights, strict=True))
    assert total == pytest.approx(0, abs=0.01 * sum(weights))  # advantages of a round are whitened


def test_settings_and_methods_are_refused(model_folder: Path) -> None:
    for wrong in ({"every_n_steps": 0}, {"num_prompts": 0}, {"num_samples": 0}, {"max_characters": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            RolloutTable(**wrong)  # type: ignore[arg-type]
    module = DPOModule(Backbone(str(model_folder)))
    with pytest.raises(ConfigError, match="train on their own samples"):
        RolloutTable().on_fit_start(None, module)  # type: ignore[arg-type]
