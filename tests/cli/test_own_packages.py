"""An objective of the user's own, as the docs print it, in the folder of its package."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from jsonargparse import set_parsing_settings

from align.cli.main import main
from align.cli.own_packages import CurrentFolder, allow_imports
from align.data.drop_report import Report
from align.errors import ConfigError
from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from tests.modules.fitting import pairs_data
from tests.test_configs import CPU, METHOD

ROOT = Path(__file__).parents[2]
DECOYS = ("torch", "yaml", "callbacks", "transformers", "numpy")


@pytest.fixture
def mypackage(tmp_path: Path) -> Path:
    """The docs' package and config, beside packages of names that must not be taken from here."""
    text = (ROOT / "docs" / "how-to" / "extend.md").read_text()
    code = re.findall(r"# mypackage/(\w+)\.py\n(.*?)\n```", text, re.DOTALL)
    assert [name for name, _ in code] == ["losses", "views", "method"]
    folder = tmp_path / "work"
    for name in ("mypackage", *DECOYS):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("" if name == "mypackage" else "raise SystemExit('a decoy')\n")
    for name, lines in code:
        (folder / "mypackage" / f"{name}.py").write_text(lines)
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


IMPORTS = """from collections.abc import Iterable
from align.data.drop_report import Report, RowError
from align.data.list_rows import rank_by_score
from align.data.located import Located
from align.data.row_validation import field
from align.data.source import Source
from align.records import Example, Message


"""


class TestOwnParts:
    """A dataset, a module and an objective from outside the package, the latter with views of their own."""

    OWN: ClassVar = {
        "method": "model: {class_path: mypackage.method.ShorterModule}",
        "objective": "model: {class_path: DPOModule, init_args: {objective: {class_path: mypackage.brief.Brief}}}",
    }

    @pytest.fixture
    def here(self, mypackage: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        (mypackage / "mypackage" / "brief.py").write_text(
            "from mypackage.losses import Softplus\nfrom mypackage.views import ShorterFirst\n\n\n"
            "class Brief(Softplus):\n    view = ShorterFirst()\n"
        )
        monkeypatch.chdir(mypackage)
        monkeypatch.setenv("ALIGN_IMPORT_ALLOW", "mypackage")
        monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
        yield mypackage
        for name in [name for name in sys.modules if name.split(".")[0] == "mypackage"]:
            del sys.modules[name]
        set_parsing_settings(import_path_denylist=["mypackage"])  # the policy of other tests: entries add up

    @pytest.mark.parametrize("name", OWN)
    def test_they_train_and_export(self, name: str, here: Path, fit_words: list[str], tmp_path: Path) -> None:
        Path("own.yaml").write_text(self.OWN[name] + "\n")
        limits = [
            "--data.batching.groups",
            "16",
            "--trainer.max_steps",
            "2",
            "--trainer.default_root_dir",
            str(tmp_path / "run"),
        ]
        assert main(["fit", "-c", "own.yaml", "-c", CPU, *fit_words[fit_words.index("--data") :], *limits]) == 0
        assert (tmp_path / "run" / "model" / "model.safetensors").exists()
        assert json.loads((tmp_path / "run" / "finished.json").read_text()) == {"step": 2}

    def test_a_dataset_is_the_one_class_that_contributing_prints(
        self, here: Path, model_folder: Path, tmp_path: Path
    ) -> None:
        text = (ROOT / "CONTRIBUTING.md").read_text()
        code = re.search(
            r"\+\+\+ align/data/voted\.py\n((?:\+.*\n)+?)\+\+\+ configs/data/voted\.yaml\n((?:\+.*\n)+)", text
        )
        assert code
        lines, settings = (re.sub(r"^\+", "", part, flags=re.MULTILINE) for part in code.groups())
        (here / "mypackage" / "voted.py").write_text(IMPORTS + lines)
        Path("voted.yaml").write_text(settings.replace("align.data.voted", "mypackage.voted"))
        rows = [
            {"question": f"What is {n}?", "answers": ["a b", "c", f"d {n} d"], "votes": [n % 3, 2, 1]}
            for n in range(24)
        ]
        rows[3]["votes"] = [1]
        Path("voted.jsonl").write_text("\n".join(map(json.dumps, rows)))
        words = ["fit", "-c", METHOD, "-c", CPU, "-c", "voted.yaml", "--model.backbone.path", str(model_folder)]
        steps = ["--data.batching.groups", "8", "--trainer.max_steps", "2"]
        assert main([*words, *steps, "--trainer.default_root_dir", str(tmp_path / "run")]) == 0
        report = Report()
        found = importlib.import_module("mypackage.voted").Voted("voted.jsonl").read("train", report)
        assert (report.read, report.dropped) == (24, {"as many votes as answers are expected": 1})
        assert found[1].responses == ("a b", "c", "d 1 d")
        assert (found[1].ranking, found[1].scores) == (((1,), (0, 2)), ((1.0,), (2.0,), (1.0,)))

    def test_the_data_are_what_they_make_of_it(self, here: Path, model_folder: Path, pairs_file: Path) -> None:
        rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
        swapped = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
        pairs_file.write_text("\n".join(map(json.dumps, swapped)))
        allow_imports()
        brief = importlib.import_module("mypackage.brief").Brief()
        own = importlib.import_module("mypackage.method").ShorterModule(Backbone(str(model_folder)))
        shorter = []
        for module in (own, DPOModule(Backbone(str(model_folder)), brief), DPOModule(Backbone(str(model_folder)))):
            data = pairs_data(pairs_file)
            data.connect(module)
            groups = data.groups["train"][range(len(rows))]
            shorter.append({len(group.response_ids[0]) < len(group.response_ids[1]) for group in groups})
        assert shorter == [{True}, {True}, {False}]


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
