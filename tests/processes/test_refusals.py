"""What is refused: files that a kill leaves half, damaged checkpoints, a folder in use, no common folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.cli.launch import is_first_process
from align.cli.run_folder import claim, release
from align.errors import ConfigError
from tests.processes.runs import IN_CI, NINE, Pair, command, slurm_environment, torchrun_environment
from tests.resume.runs import KILLED
from tests.resume.test_stop import last_line
from tests.test_configs import METHOD, ParseOnly

SAVE = ["--trainer.callbacks+", "align.callbacks.checkpoint.Checkpoint", "--trainer.callbacks.every_n_steps", "2"]


@pytest.mark.parametrize("strategy", IN_CI)
def test_damage(strategy: str, tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    cut = Pair(tmp_path / "cut", command("sft", pairs_file, model_folder, *SAVE, strategy=strategy))
    assert cut(("batch_end", 3, NINE)) == KILLED
    last = cut.root / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-2000])
    assert cut() == 2
    assert "last.ckpt is damaged" in last_line(cut)


def test_sharded_files(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    sharded = ["--trainer.strategy", "ModelParallelStrategy", "--trainer.strategy.save_distributed_checkpoint", "true"]
    run = Pair(tmp_path / "run", command("sft", pairs_file, model_folder, *sharded, strategy="fsdp2"))
    assert run() == 2
    assert "set its save_distributed_checkpoint to false" in last_line(run)


def test_a_folder_in_use_by_processes_of_a_launcher(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    run = Pair(tmp_path / "run", command("sft", pairs_file, model_folder, strategy="ddp"))
    claim(run.root)
    try:
        assert run() == 3
        assert "is in use by process" in last_line(run)
    finally:
        release()


@pytest.mark.parametrize(
    "environment",
    [
        torchrun_environment(0, 1),
        slurm_environment(0, 1),
        {"NODE_RANK": "0"},
    ],
)
def test_processes_of_a_launcher_need_a_folder(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from align.cli.lightning import _new_root

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process()
    with pytest.raises(ConfigError, match=r"name their folder with --trainer.default_root_dir"):
        _new_root("fit", "SFTModule")


@pytest.mark.parametrize(
    "environment",
    [torchrun_environment(1, 1), slurm_environment(1, 1), {"NODE_RANK": "1"}, {"LOCAL_RANK": "1"}],
)
def test_only_one_process_claims_the_folder(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not is_first_process()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "deepspeed", "ModelParallelStrategy", "FSDPStrategy"])
def test_strategies_parse_by_name(strategy: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["--data", "PreferenceFileDataModule", "--data.path", "x", "--model.backbone.path", "y"]
    with pytest.raises(SystemExit) as stop:
        ParseOnly(["fit", "-c", METHOD, *source, "--trainer.strategy", strategy, "--print_config"])
    assert not stop.value.code
    assert strategy in capsys.readouterr().out
