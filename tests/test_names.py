"""One word, one thing: names that a reader, a search or a traceback meets stand for one class or file; files are short."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted([*ROOT.glob("align/**/*.py"), *ROOT.glob("callbacks/*.py")])
LENGTHS = {"align": 200, "callbacks": 200, "benchmarks": 200, "experiments": 200, "tests": 300}


def public_classes(path: Path) -> list[str]:
    found = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    return [name for name in found if not name.startswith("_")]


def twice(names: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    places = defaultdict(list)
    for name, path in names:
        places[name].append(str(path))
    return {name: where for name, where in places.items() if len(where) > 1}


def test_no_public_class_is_defined_twice() -> None:
    assert not twice((name, path.relative_to(ROOT)) for path in CODE for name in public_classes(path))


def test_no_file_name_stands_for_two_ideas() -> None:
    assert not twice((path.stem, path.relative_to(ROOT)) for path in CODE if not path.stem.startswith("__"))


def test_the_rule_would_catch_a_name_that_is_there_twice(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class Judge: ...\nclass _Own: ...\n")
    assert public_classes(tmp_path / "a.py") == ["Judge"]
    assert twice([("Judge", Path("a.py")), ("Judge", Path("b.py")), ("Scorer", Path("c.py"))]) == {
        "Judge": ["a.py", "b.py"]
    }


@pytest.mark.parametrize("folder", LENGTHS)
def test_files_are_short(folder: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in ROOT.glob(f"{folder}/**/*.py")
    }
    assert not {path: lines for path, lines in lengths.items() if lines > LENGTHS[folder]}
