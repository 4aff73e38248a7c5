"""What a YAML file may hold: faults are named by file and line, and nothing in it runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from align.cli.main import main
from tests.test_configs import METHOD

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
"""81 aliases that stand for four billion values."""


class TestConfigFiles:
    @pytest.mark.bad_input
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

    @pytest.mark.bad_input
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("? [a, b]\n: 1\n", "line 1: a key is a sequence, expected the name of a setting"),
            ("a: " + "[" * 5000, "line 1: deeper than 50 levels"),
            ("a: " + "{b: " * 5000, "line 1: deeper than 50 levels"),
            (BOMB, "line 5: more than 20,000 values, aliases filled in"),
            ("a: [" + "1, " * 20_000 + "1]\n", "line 1: more than 20,000 values"),
            ("a: &a [*a]\n", "alias 'a' stands inside of what it stands for"),
            ("a: 1\nb: " + "9" * 5000, "line 2: a number of 5000 digits, at most 18 fit"),
            ("a: 1\n---\nb: 2\n", "not valid YAML, but found another document"),
            ("a: '" + "x" * 1_000_000 + "'\n", "larger than 1,000,000 bytes"),
            (
                "model: {init_args: {backbone: {trust_remote_code: true}}}\n",
                "trust_remote_code is for the command line",
            ),
            ("trust_remote_code: false\n", "leave it out, give --trust_remote_code there"),
        ],
    )
    def test_what_would_take_for_ever_is_refused_at_once(self, told, tmp_path: Path, text: str, line: str) -> None:
        path = tmp_path / "own.yaml"
        path.write_text(text, encoding="utf-8")
        began = time.process_time()
        assert line in told("fit", "-c", str(path))
        assert time.process_time() - began < 2

    @pytest.mark.bad_input
    @pytest.mark.parametrize("form", ["-c FILE", "-cFILE", "-c=FILE", "--config FILE", "--config=FILE"])
    def test_every_way_to_name_a_config(self, told, tmp_path: Path, form: str) -> None:
        path = tmp_path / "own.yaml"
        path.write_text("trainer: {max_epochs: 1}\ntrainer: {max_epochs: 2}\n")
        assert "line 2: key 'trainer' stands twice" in told("fit", *form.replace("FILE", str(path)).split())
        path.unlink()
        os.mkfifo(path)
        assert "not a regular file" in told("fit", *form.replace("FILE", str(path)).split())

    @pytest.mark.bad_input
    @pytest.mark.parametrize(
        ("option", "text"),
        [
            ("--data", "class_path: PreferenceFileDataModule\ninit_args: {path: x, path: y}\n"),
            ("--model", "class_path: DPOModule\ninit_args: {backbone: {path: x, path: y}}\n"),
            ("--trainer", "max_epochs: 1\nmax_epochs: 2\n"),
            ("--data.batching", "class_path: TokenBudget\ninit_args: {tokens: 5, tokens: 6}\n"),
            ("--data.encoding", "template: plain\ntemplate: chat\n"),
            ("--model.objective", "class_path: DPO\ninit_args: {beta: 1, beta: 2}\n"),
            ("--model.backbone", "path: a\npath: b\n"),
            ("--model.optimizer", "learning_rate: 1\nlearning_rate: 2\n"),
        ],
    )
    def test_every_option_that_takes_a_file(
        self, told, tmp_path: Path, fit_words: list[str], option: str, text: str
    ) -> None:
        path = tmp_path / "own.yaml"
        path.write_text(text)
        assert f"config {path}, line" in (said := told(*fit_words, option, str(path)))
        assert "stands twice, first in line" in said

    @pytest.mark.bad_input
    def test_what_such_a_file_may_hold(self, told, tmp_path: Path, fit_words: list[str]) -> None:
        path = tmp_path / "own.yaml"
        for content, line in ((BOMB, "more than 20,000 values"), ("a: [", "not valid YAML")):
            path.write_text(content)
            assert line in told(*fit_words, f"--data.batching={path}")
        path.unlink()
        os.mkfifo(path)
        assert "not a regular file" in told(*fit_words, "--trainer", str(path))

    @pytest.mark.bad_input
    def test_a_file_named_inside_of_another(self, told, tmp_path: Path, fit_words: list[str]) -> None:
        inner, outer = tmp_path / "inner.yaml", tmp_path / "outer.yaml"
        inner.write_text("max_epochs: 1\nmax_epochs: 2\n")
        outer.write_text(f"trainer: {inner}\n")
        assert f"config {inner}, line 2: key 'max_epochs' stands twice" in told(*fit_words, "-c", str(outer))

    @pytest.mark.bad_input
    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["--data.columns", "{prompt: a, prompt: b}"], "given in YAML, line 1: key 'prompt' stands twice"),
            (["--trainer", "{max_epochs: 1, max_epochs: 2}"], "key 'max_epochs' stands twice"),
            (["--data.columns", "{a: " * 3000], "deeper than 50 levels"),
            (
                ["--trainer.max_epochs", "9" * 5000],
                "--trainer.max_epochs: given in YAML, line 1: a number of 5000 digits",
            ),
        ],
    )
    def test_what_is_written_as_yaml_on_the_command_line(
        self, told, fit_words: list[str], words: list[str], line: str
    ) -> None:
        assert line in told(*fit_words, *words)

    def test_files_without_faults_are_read(self, tmp_path: Path, fit_words: list[str]) -> None:
        """A prompt that looks like YAML is text, and every way to give a file works."""
        (tmp_path / "trainer.yaml").write_text("\ufefflimit_train_batches: 1\nlimit_val_batches: 1\n", encoding="utf-8")
        run = tmp_path / "run"
        words = ["--trainer", str(tmp_path / "trainer.yaml"), "--trainer.default_root_dir", str(run)]
        assert main([*fit_words, *words]) == 0
        assert "limit_train_batches: 1" in (run / "config.yaml").read_text()
        asked = ["--prompt", "!x {a: 1, a: 2} [", "--generation.max_new_tokens", "1"]
        assert main(["generate", "--model.path", str(run / "model"), *asked]) == 0

    @pytest.mark.injection
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
