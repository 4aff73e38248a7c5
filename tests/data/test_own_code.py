"""What a class of a user's own made is not served once the class is edited: caches and checkpoints know its code."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from align.data.encoding import EncodingConfig
from align.data.fitting import VIEWS
from align.data.hh_rlhf import HHRLHF
from align.data.own_code import UNKNOWN, own_code
from align.data.preference_file import PreferenceFileDataModule
from align.data.source import Source
from align.data.source_module import SourceDataModule
from align.data.splits import Splits
from align.data.views import View
from align.models.backbone import Backbone
from align.modules.sft import SFTModule

VIEW = """from dataclasses import dataclass

from align.data.selection import select
from align.data.views import View


@dataclass(frozen=True)
class Nth(View):
    def groups(self, example):
        return [select(example, [{number}], [0])]
"""
SOURCE = """from align.data.source import Source
from align.records import Example, Message


class Numbers(Source):
    def examples(self, located, report):
        return [Example(self.place(located), (Message("user", "Say it."),), ("{word} " * located.row["n"],))]
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Write a module of the user's own, as another run finds it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a file of the same second is taken for the same

    def write(text: str) -> ModuleType:
        (tmp_path / "userpart.py").write_text(text)
        sys.modules.pop("userpart", None)
        importlib.invalidate_caches()
        return importlib.import_module("userpart")

    yield write
    sys.modules.pop("userpart", None)


def responses(data: SourceDataModule | PreferenceFileDataModule, folder: Path) -> list[list[int]]:
    data.connect(SFTModule(Backbone(str(folder))))
    groups = data.groups["train"]
    return [group.response_ids[0] for group in groups[range(len(groups))]]


def test_an_edited_view_is_applied_anew(
    written: Callable[[str], ModuleType], pairs_file: Path, model_folder: Path, tmp_path: Path
) -> None:
    found, prints = [], []
    for number in (0, 1, 0):
        view = written(VIEW.format(number=number)).Nth()
        encoding = EncodingConfig(cache_dir=str(tmp_path / "cache"))
        data = PreferenceFileDataModule(str(pairs_file), view=view, splits=Splits(0), encoding=encoding)
        found.append(responses(data, model_folder))
        prints.append(data.fingerprint)
    assert found[0] == found[2] != found[1]
    assert prints[0] == prints[2] != prints[1]
    assert len([*(tmp_path / "cache").glob("*.json")]) == 6  # two versions of three splits: the third run reads them


def test_an_edited_source_is_read_anew(
    written: Callable[[str], ModuleType], model_folder: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"n": n}) for n in range(1, 9)))
    found = []
    for word in ("a", "b", "a"):
        source = written(SOURCE.format(word=word)).Numbers(str(rows))
        encoding = EncodingConfig(cache_dir=str(tmp_path / "cache"))
        found.append(responses(SourceDataModule(source, splits=Splits(0), encoding=encoding), model_folder))
    assert found[0] == found[2] != found[1]


def test_ours_are_known_by_class_and_settings(pairs_file: Path) -> None:
    for view in VIEWS.values():
        assert view.fingerprint == repr(view)
    assert (own_code(HHRLHF), own_code(Source), own_code(View)) == ("", "", "")


def test_code_that_cannot_be_read_is_taken_for_no_other_process_s() -> None:
    made = type("Typed", (), {"__module__": "__nowhere__"})
    assert own_code(made)
    assert len(UNKNOWN) == 32
