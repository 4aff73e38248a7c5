"""The studies that are shipped: every one can be read at every scale, and its runs are taken by the program."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from align.cli import front_compare
from align.cli.included_configs import configs_of, content_of
from align.cli.main import main
from align.cli.verbs import LIGHTNING_VERBS
from align.models.small import new_llama, word_tokenizer
from align.studies.files_read import without_made_settings
from align.studies.study_file import read_study
from align.studies.tasks import Task, tasks_of
from align.world.language import TAGS, vocabulary
from align.world.universe import World
from tests.docs.test_commands import functions, parse, parsing, read_only
from tests.test_configs import ROOT

__all__ = ["parsing"]
STUDIES = sorted((ROOT / "experiments").glob("*/study*.yaml"))
NAMES = [path.parent.name for path in STUDIES]


def tasks(path: Path, scale: str | None) -> dict[str, Task]:
    return tasks_of(read_study(content_of(str(path)), path).at(scale), configs_of)


@pytest.mark.parametrize("path", STUDIES, ids=NAMES)
def test_a_study_can_be_read_at_every_scale(path: Path) -> None:
    scales = read_study(content_of(str(path)), path).scales
    assert "ci" in scales
    for scale in [None, *scales]:
        found = tasks(path, scale)
        assert len({task.folder for task in found.values()}) == len(found)
        assert len({task.key for task in found.values()}) == len(found)


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=NAMES)
def test_its_commands_are_taken(path: Path, parsing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    directed = SimpleNamespace(asks="direction")  # of models that the study has yet to make
    monkeypatch.setattr(front_compare, "read_condition_file", lambda _: directed)
    for task in tasks(path, "ci").values():
        if task.words and task.words[0] in LIGHTNING_VERBS:
            given = [] if task.start is None else ["--model.backbone.path", str(task.start)]
            there = without_made_settings(task.reads["words"], task.words)
            assert parse([*there, *given]) == 0
        elif task.words and task.words[0] != "python":
            assert main(list(task.words)) == 0, task.name
    assert functions.call is read_only


def write_base(folder: Path, world: World) -> None:
    """Write a base of a world with random weights, in the place of what `init world` makes."""
    tokenizer = word_tokenizer(vocabulary(world.version), TAGS)
    model = new_llama(tokenizer, hidden_size=128, num_hidden_layers=4, max_positions=256, tied=False, seed=0)
    model.config.synthetic_world = world.settings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=NAMES)
def test_it_runs_at_its_smallest_scale(path: Path, tmp_path: Path) -> None:
    write_base(tmp_path / "runs/world/base", World())
    write_base(tmp_path / "runs/world/second", World(version=2))
    copy = tmp_path / path.parent.name
    shutil.copytree(path.parent, copy)
    made = r'init world [^"]*?--out \$\{here\}'
    text = re.sub(made, "config list", (copy / path.name).read_text())  # the base is there
    (copy / path.name).write_text(text)
    command = [sys.executable, "-m", "align", "study", str(copy / path.name), "--scale", "ci"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{ran.stdout[-2000:]} {ran.stderr[-2000:]}"
    table = next(tmp_path.glob("runs/*-ci/*/table.md"))
    assert table.read_text().count("|") > 10
