"""An objective of the user's own, as the docs print it, in the folder of its package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from align.cli.main import main
from align.cli.own_packages import CurrentFolder, allow_imports
from align.errors import ConfigError

ROOT = Path(__file__).parents[2]
DECOYS = ("torch", "yaml", "callbacks", "transformers", "numpy")


@pytest.fixture
def mypackage(tmp_path: Path) -> Path:
    """The docs' package and config, beside packages of names that must not be taken from here."""
    text = (ROOT / "docs" / "how-to" / "extend.md").read_text()
    code = re.search(r"# mypackage/losses.py\n(.*?)\n```", text, re.DOTALL)
    assert code
    folder = tmp_path / "work"
    for name in ("mypackage", *DECOYS):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("" if name == "mypackage" else "raise SystemExit('a decoy')\n")
    (folder / "mypackage" / "losses.py").write_text(code[1])
    named = re.search(r"`(model: [^`]*mypackage.losses.Softplus[^`]*)`", text)
    assert named
    (folder / "mine.yaml").write_text(named[1] + "\n")
    return folder


@pytest.fixture
def installed(tmp_path: Path) -> list[str]:
    """The installed program: a script in another folder, so that the current one is not on the import path."""
    script = tmp_path / "bin" / "align"
    script.parent.mkdir()
    script.write_text("from align.cli.main import entry\nentry()\n")
    return [sys.executable, str(script)]


def test_it_trains_as_the_docs_print_it_and_exports_without_it(
    mypackage: Path, installed: list[str], fit_words: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    limits = ["--trainer.limit_train_batches", "1", "--trainer.default_root_dir", str(run)]
    words = [*fit_words, "-c", "mine.yaml", *limits]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ALIGN_IMPORT_ALLOW": "mypackage"}
    done = subprocess.run(
        [*installed, *words], cwd=mypackage, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    config = (run / "config.yaml").read_text()
    assert "mypackage.losses.Softplus" in config
    assert "beta: 0.2" in config
    assert "mypackage" not in sys.modules
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (run / "model" / "model.safetensors").read_bytes()


def test_the_refusal_names_the_variable(mypackage: Path, fit_words: list[str], told) -> None:
    line = told(*fit_words, "-c", str(mypackage / "mine.yaml"))
    assert "class_path 'mypackage.losses.Softplus' is outside the packages a config may name" in line
    assert "ALIGN_IMPORT_ALLOW=mypackage" in line


class TestFinder:
    @pytest.mark.injection
    def test_allowed_packages_and_no_others(self, mypackage: Path) -> None:
        finder = CurrentFolder({"mypackage"}, mypackage)
        found = finder.find_spec("mypackage", None)
        assert found is not None
        assert found.origin == str(mypackage / "mypackage" / "__init__.py")
        assert [finder.find_spec(name, None) for name in DECOYS] == [None] * len(DECOYS)

    @pytest.mark.injection
    def test_ours_are_never_taken_from_there(self, mypackage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(mypackage)
        monkeypatch.setenv("ALIGN_IMPORT_ALLOW", "mypackage,torch.nn,align")
        monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
        allow_imports()
        assert isinstance(sys.meta_path[-1], CurrentFolder)
        assert sys.meta_path[-1].packages == {"mypackage"}

    @pytest.mark.injection
    def test_a_name_that_is_installed_too_is_refused(self, mypackage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(mypackage)
        monkeypatch.setenv("ALIGN_IMPORT_ALLOW", "yaml")
        with pytest.raises(
            ConfigError, match=r"'yaml', which is in the current folder .* and installed .* rename yours"
        ):
            allow_imports()

    @pytest.mark.injection
    def test_what_is_no_package_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALIGN_IMPORT_ALLOW", "./mypackage")
        with pytest.raises(ConfigError, match=r"names '\./mypackage', expected packages such as mypackage"):
            allow_imports()


@pytest.mark.injection
def test_every_verb_has_the_policy(told, tmp_path: Path) -> None:
    """Verbs that are functions name classes too."""
    (tmp_path / "own.yaml").write_text("judge: {class_path: subprocess.Popen, init_args: {args: [touch, was-here]}}\n")
    line = told("evaluate", "-c", "own.yaml", "--models", "x", "--prompts", "y", "--out", "z")
    assert "'subprocess.Popen' is outside the packages a config may name" in line
    assert not (tmp_path / "was-here").exists()
