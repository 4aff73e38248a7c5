"""What a YAML file may hold: faults are named by file and line, and nothing in it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.cli.main import main
from tests.test_configs import METHOD


class TestConfigFiles:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("", "the file is empty"),
            ("# only a comment\n", "the file is empty"),
            (
                "model:\n\tclass_path: x\n",
                "line 2: not valid YAML, found character '\\t' that cannot start any token: indent with spaces",
            ),
            ("- a\n- b\n", "expected settings as `key: value`"),
            (
                "trainer: {max_epochs: 1}\nmodel: {}\ntrainer: {max_epochs: 2}\n",
                "line 3: key 'trainer' stands twice, first in line 1",
            ),
            ("trainer:\n  max_epochs: 1\n  max_epochs: 2\n", "line 3: key 'max_epochs' stands twice, first in line 2"),
            ("modle:\n  x: 1\n", "unknown setting --modle.x, did you mean 'model'?"),
            ("trainer:\n  max_epoch: 1\n", "unknown setting --trainer.max_epoch, did you mean 'trainer.max_epochs'?"),
            ("no: 1\n", "YAML reads 'no' as true or false: quote it"),
            ("model: !!python/object/apply:os.system ['echo']\n", "is not allowed: write plain values"),
            ("model: !custom x\n", "tag '!custom' is not allowed"),
            ("model:\n  class_path: os.path.join\n", "outside the packages a config may name"),
            ("model:\n  class_path: subprocess.Popen\n", "outside the packages a config may name"),
            ("a: &a [x]\nb: [" + "*a, " * 150 + "*a]\n", "151 aliases, at most 100 are allowed"),
            ("model: {class_path: x\n", "not valid YAML"),
            ("\ufeffmodel: [\n", "not valid YAML"),
        ],
    )
    def test_faults_are_named_by_file_and_line(self, told, tmp_path: Path, text: str, line: str) -> None:
        path = tmp_path / "own.yaml"
        path.write_text(text, encoding="utf-8")
        message = told(
            "fit",
            "-c",
            METHOD,
            "-c",
            str(path),
            "--data",
            "HHRLHFDataModule",
            "--data.path",
            "x",
            "--model.backbone.path",
            "y",
        )
        assert line in message

    def test_a_foreign_class_is_refused_before_its_import(
        self, told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "intruder.py").write_text("import pathlib\npathlib.Path('was-here').touch()\nclass X: ...\n")
        monkeypatch.syspath_prepend(tmp_path)
        config = tmp_path / "own.yaml"
        config.write_text("trainer:\n  callbacks:\n    - class_path: intruder.X\n")
        line = told(
            "fit",
            "-c",
            METHOD,
            "-c",
            str(config),
            "--data",
            "HHRLHFDataModule",
            "--data.path",
            "x",
            "--model.backbone.path",
            "y",
        )
        assert "'intruder.X' is outside the packages a config may name" in line
        assert not (tmp_path / "was-here").exists()

    def test_numbers_and_words_are_read_as_they_look(self, tmp_path: Path, fit_words: list[str], told) -> None:
        config = tmp_path / "own.yaml"
        config.write_text("model:\n  init_args:\n    optimizer: {learning_rate: 1e-4, lr_scheduler_type: no}\n")
        assert "lr_scheduler_type" in told(*fit_words, "-c", str(config))  # `no` is no schedule and no false
        config.write_text(
            "model:\n  init_args:\n    optimizer: {learning_rate: 1e-4}\ntrainer: {limit_train_batches: 1, limit_val_batches: 1}\n"
        )
        run = tmp_path / "run"
        assert main([*fit_words, "-c", str(config), "--trainer.default_root_dir", str(run)]) == 0
        assert "learning_rate: 0.0001" in (run / "config.yaml").read_text()
