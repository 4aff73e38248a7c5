"""Files of settings that name others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from align.cli.included_configs import with_configs
from align.cli.main import main
from align.cli.shipped_configs import find_shipped


def test_a_file_stands_behind_those_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("sub/a.yaml").write_text("config: [dpo, b.yaml]\nseed_everything: 1\n")
    Path("sub/b.yaml").write_text("config: [cpu]\n")
    dpo, cpu = str(find_shipped("dpo")), str(find_shipped("trainer/cpu"))
    full = ["fit", *("-c", dpo), *("-c", cpu), *("-c", "sub/b.yaml"), *("-c", "sub/a.yaml"), "--x", "1"]
    for form in (["-c", "sub/a.yaml"], ["--config", "sub/a.yaml"], ["--config=sub/a.yaml"], ["-csub/a.yaml"]):
        assert with_configs(["fit", *form, "--x", "1"]) == full


def test_a_run_is_one_file(model_folder: Path, pairs_file: Path) -> None:
    """The later file wins, and a class keeps the settings that it does not name."""
    data = {"class_path": "PreferenceFileDataModule", "init_args": {"path": str(pairs_file)}}
    base = {"config": ["dpo", "cpu"], "data": data, "model": {"init_args": {"backbone": {"path": str(model_folder)}}}}
    Path("base.yaml").write_text(yaml.safe_dump(base))
    own = {"config": ["base.yaml"], "model": {"init_args": {"optimizer": {"learning_rate": 0.125}}}}
    own["trainer"] = {"limit_train_batches": 1, "limit_val_batches": 0, "default_root_dir": "runs/one"}
    Path("own.yaml").write_text(yaml.safe_dump(own))
    assert main(["fit", "-c", "own.yaml"]) == 0
    saved = yaml.safe_load(Path("runs/one/config.yaml").read_text())
    given = saved["model"]["init_args"]
    assert (given["optimizer"]["learning_rate"], given["objective"]["init_args"]["beta"]) == (0.125, 0.1)
    assert given["backbone"]["path"] == str(model_folder)
    assert "config" not in saved


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("config: [own.yaml]", "config own.yaml: it names itself, by own.yaml"),
        ("config: dpo", "config own.yaml: config takes a list of files or shipped configs, got dpo"),
        ("config: [nothing]", "config own.yaml: config names 'nothing', which is no file and no shipped config"),
        ("config: [dpo]\na: [", "config own.yaml, line 2: not valid YAML"),
    ],
)
def test_a_file_that_names_what_is_not_there(
    text: str, line: str, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(text)
    assert line in told("fit", "-c", "own.yaml")


def test_a_dpo_yaml_that_names_dpo_means_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dpo.yaml").write_text("config: [dpo, cpu]\n")
    files = with_configs(["fit", "-c", "dpo.yaml"])[2::2]
    assert [Path(file).parent.name for file in files] == ["method", "trainer", ""]


def test_settings_of_a_class_named_later_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-c score_conditioned --data MODULE`: the file says how whatever data are viewed, and stands before them."""
    monkeypatch.chdir(tmp_path)
    Path("view.yaml").write_text("data: {init_args: {seed: 3}}\n")
    Path("whole.yaml").write_text("data: {class_path: HHRLHFDataModule}\n")
    data = ["--data", "PreferenceFileDataModule"]
    assert with_configs(["fit", "-c", "view.yaml", *data]) == ["fit", *data, "-c", "view.yaml", *data]
    for same in (["fit", *data, "-c", "view.yaml"], ["fit", "-c", "whole.yaml", *data], ["fit", "-c", "view.yaml"]):
        assert with_configs(same) == same


def test_a_view_in_a_fragment_holds_for_data_named_after_it(
    model_folder: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f'{{"prompt": "p{n}", "completions": ["a", "b"], "scores": [0.25, 0.75]}}\n' for n in range(8))
    Path("rows.jsonl").write_text(rows)
    data = ["--data", "PreferenceFileDataModule", "--data.path", "rows.jsonl"]
    words = ["check", "-c", "score_conditioned", "-c", "cpu", *data, "--model.backbone.path", str(model_folder)]
    assert main(words) == 0
    assert "0.8" in capsys.readouterr().out
