"""Settings that were tracebacks, or told when hours had gone by, are one line at the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from align.cli.main import main
from align.cli.trainer_check import check_trainer, check_workers
from align.cli.yaml_check import check_config
from align.data.conditioning import ScoreConditioned
from align.data.fitting import check_view
from align.data.hindsight import Hindsight
from align.data.scored_lists import ScoredLists
from align.data.views import Pairs, Unpaired
from align.errors import ConfigError
from align.models.backbone import LoRA
from tests.test_configs import ROOT

pytestmark = pytest.mark.bad_input
HUGE = "9" * 30
ON_POLICY = str(ROOT / "configs" / "callbacks" / "on_policy_dpo.yaml")


class TestSettings:
    @pytest.mark.parametrize(
        ("extra", "line"),
        [
            (
                ["--trainer.accumulate_grad_batches", HUGE],
                "--trainer.accumulate_grad_batches: expected a number of at most",
            ),
            (
                ["--trainer.max_epochs", HUGE],
                "--trainer.max_epochs: expected a number of at most 64 bits, got about 1e+30",
            ),
            (["--trainer.num_nodes", HUGE], "--trainer.num_nodes: expected a number of at most 64 bits"),
            (["--data.max_samples", HUGE], "--data.max_samples: expected a number of at most 64 bits, got about 1e+30"),
            (["--seed_everything", HUGE], "--seed_everything: expected a number of at most 64 bits"),
            (["--model.objective.beta", "nan"], "--model.objective.beta: expected float, got 'nan'"),
            (["--model.objective.beta", ".nan"], "--model.objective.beta: expected a number, got nan"),
            (
                ["--model.optimizer.learning_rate", ".nan"],
                "--model.optimizer.learning_rate: expected a number, got nan",
            ),
            (["--trainer.gradient_clip_val", ".nan"], "--trainer.gradient_clip_val: expected a number, got nan"),
            (
                ["--trainer.devices", "x"],
                "--trainer.devices: expected auto, a number from 1 on, or a list such as [0, 1], got",
            ),
            (["--trainer.devices", "0"], "--trainer.devices: expected auto"),
            (["--trainer.devices", "-3"], "--trainer.devices: expected auto"),
            (["--trainer.devices", "1.5"], "--trainer.devices: expected auto"),
            (["--trainer.devices", "[]"], "--trainer.devices: expected auto"),
            (["--trainer.devices", "[0, x]"], "--trainer.devices: expected auto"),
            (["--trainer.devices", HUGE], "--trainer.devices: expected auto"),
            (["--data.batching.num_workers", "1000"], "--data.batching.num_workers: expected at most"),
            (
                ["--model.backbone.attn_implementation", "some/kernel"],
                "is a kernel of the hub, which is code of others",
            ),
            (["--model.backbone.lora.target_modules", "("], "backbone.lora.target_modules '('"),
            (["--data.view", "RegressionRows"], "--data.view RegressionRows: DPOModule takes pairs, expected Pairs"),
            (["--data.batching", "null"], "--data.batching: expected settings of Batching, got null: leave it out"),
            (["--model.optimizer", "null"], "--model.optimizer: expected settings of Optimizer, got null: leave it"),
            (
                ["-c", ON_POLICY, "--trainer.callbacks.direction", "null"],
                "--trainer.callbacks.direction: expected settings of Direction, got null: leave it out for the usual",
            ),
            (["--data.view", "Singles"], "--data.view Singles: DPOModule takes pairs"),
            (["--data.view", "Unpaired"], "--data.view Unpaired: DPOModule takes pairs"),
            (["--data.view", "RankedLists"], "--data.view RankedLists: DPOModule takes pairs"),
            (["--data.columns", "{prompt: nowhere}"], "data.columns: no column 'nowhere' (there: prompt, chosen"),
            (["--data.columns", "{prompt: ''}"], "data.columns: no column ''"),
            (["--data.columns", "{chosen: prompt, rejected: prompt}"], "'prompt' is named for chosen and rejected"),
            (["--ckpt_path", "."], "--ckpt_path '.': no such file"),
            (["--weights_only", "false"], "--weights_only false: a checkpoint could run code when it is read"),
        ],
    )
    def test_settings_that_were_tracebacks_or_told_late(
        self, told, fit_words: list[str], extra: list[str], line: str
    ) -> None:
        assert line in told(*fit_words, *extra)

    @pytest.mark.parametrize("option", ["-c", "--data.path", "--model.backbone.path", "--trainer.default_root_dir"])
    def test_a_link_to_itself(self, told, fit_words: list[str], tmp_path: Path, option: str) -> None:
        loop = tmp_path / "loop"
        loop.symlink_to(loop)
        assert str(loop) in told(*fit_words, option, str(loop))

    def test_devices_that_are_right(self) -> None:
        for devices in ("auto", None, 1, "1", -1, "-1", [0], "0,1", [0, 3], "2"):
            check_trainer({"devices": devices})

    @pytest.mark.parametrize(
        ("settings", "line"),
        [
            (None, "--trainer: expected settings as `key: value`, got None"),
            ([], "--trainer: expected settings as `key: value`"),
            ({"val_check_interval": 0}, "val_check_interval must be above 0, got 0"),
            ({"val_check_interval": 0.0}, "val_check_interval must be above 0"),
            ({"check_val_every_n_epoch": 0}, "check_val_every_n_epoch must be at least 1, got 0"),
            ({"limit_train_batches": 0}, "limit_train_batches must be above 0, got 0: there would be nothing"),
            ({"min_epochs": 10, "max_epochs": 1}, "min_epochs must be at most max_epochs, 1, got 10"),
            ({"min_steps": 5, "max_steps": 4}, "min_steps must be at most max_steps, 4, got 5"),
            ({"devices": 999}, "expected at most"),
            ({"devices": [*range(999)]}, "expected at most"),
            ({"log_every_n_steps": -1}, "log_every_n_steps must be at least 0, got -1"),
            ({"num_sanity_val_steps": -3}, "num_sanity_val_steps must be at least -1, got -3"),
            ({"reload_dataloaders_every_n_epochs": -1}, "reload_dataloaders_every_n_epochs must be at least 0"),
            ({"accumulate_grad_batches": 0}, "accumulate_grad_batches must be at least 1, got 0"),
        ],
    )
    def test_trainers_that_divide_by_zero_train_nothing_or_start_hundreds(self, settings: Any, line: str) -> None:
        with pytest.raises(ConfigError, match=line):
            check_trainer(settings)

    def test_processes_by_the_thousand(self) -> None:
        with pytest.raises(ConfigError, match=r"--data\.encoding\.num_proc: expected at most"):
            check_workers({"init_args": {"encoding": {"num_proc": 100_000}}})

    def test_a_package_that_is_not_here(self, told, fit_words: list[str]) -> None:
        assert "Requirement 'torch_xla" in told(*fit_words, "--trainer.accelerator", "tpu")

    @pytest.mark.parametrize(
        "text",
        ["trainer: {max_epochs: 1:30}", "seed_everything: 010", "a: [-07]", "a: 1:30.5", "a: {b: [1:00:00]}"],
    )
    def test_numbers_that_yaml_reads_as_others(self, tmp_path: Path, text: str) -> None:
        """1:30 trained ninety epochs."""
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"line 1: .* is another number to YAML: write it out or quote it"):
            check_config(str(tmp_path / "own.yaml"))

    @pytest.mark.parametrize("value", ["010", "1:30"])
    def test_numbers_that_are_typed_so(self, told, fit_words: list[str], value: str) -> None:
        """`--trainer.max_epochs 1:30` trained ninety epochs; a text may look so."""
        for option in ("--trainer.max_epochs", "--model.optimizer.learning_rate"):
            line = told(*fit_words, option, value)
            assert f"{option}: {value!r} is another number to YAML: write it out" in line
        assert "required: --model" in told("generate", "--prompt", value)

    def test_numbers_as_they_look(self, tmp_path: Path) -> None:
        (tmp_path / "own.yaml").write_text("a: [0, 10, 1_000, 0x10, 0.5, -1, 1e-4, '1:30', 0:05:00]")
        check_config(str(tmp_path / "own.yaml"))

    @pytest.mark.parametrize("alpha", [0.0, -1.0])
    def test_an_adapter_that_would_learn_nothing(self, alpha: float) -> None:
        with pytest.raises(ConfigError, match=r"lora_alpha must be above 0"):
            LoRA(lora_alpha=alpha)

    def test_views_that_fit(self) -> None:
        one = (ScoredLists(max_responses=1), Hindsight(), ScoreConditioned())
        for view, wanted in ((Pairs(), "lists"), *((view, "singles") for view in one)):
            check_view(view, wanted, "X")
        for view, wanted in ((ScoredLists(), "singles"), (Unpaired(), "singles"), (Pairs(), "unpaired")):
            with pytest.raises(ConfigError, match=r"leave data\.view out"):
                check_view(view, wanted, "X")


def callback(name: str, **settings: object) -> list[str]:
    return ["--trainer.callbacks", json.dumps([{"class_path": name, "init_args": settings}])]


class TestMonitors:
    """A metric that nobody logs stopped a run at the end of its first epoch."""

    SHORT = ("--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1")

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (
                callback("EarlyStopping", monitor="nowhere"),
                "EarlyStopping: no metric is called 'nowhere' (there: val/kl",
            ),
            (callback("EarlyStopping", monitor="val/los"), "no metric is called 'val/los', did you mean 'val/loss'?"),
            (
                callback("Checkpoint", monitor="val/accuracy"),
                "Checkpoint: no metric is called 'val/accuracy', did you mean",
            ),
            (
                callback("lightning.pytorch.callbacks.ModelCheckpoint", monitor="x"),
                "ModelCheckpoint: no metric is called 'x'",
            ),
            (
                callback("EarlyStopping", monitor="train/los"),
                "no metric is called 'train/los', did you mean 'train/loss'?",
            ),
            (
                [*callback("EarlyStopping", monitor="val/loss"), "--data.splits.val_fraction", "0"],
                "EarlyStopping: monitor 'val/loss' is a metric of validation, and there is none",
            ),
        ],
    )
    def test_a_metric_that_is_never_logged(self, told, fit_words: list[str], words: list[str], line: str) -> None:
        assert line in told(*fit_words, *self.SHORT, *words)
        assert not list(Path("runs").rglob("*.ckpt"))

    @pytest.mark.parametrize("name", ["val/loss", "train/loss", "train/grad_norm", "val/rewards/accuracies"])
    def test_metrics_that_are_logged(self, fit_words: list[str], name: str) -> None:
        assert main([*fit_words, *self.SHORT, *callback("EarlyStopping", monitor=name)]) == 0

    def test_a_callback_that_can_do_without(self, fit_words: list[str]) -> None:
        assert main([*fit_words, *self.SHORT, *callback("EarlyStopping", monitor="val/x", strict=False)]) == 0
