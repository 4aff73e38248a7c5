"""The program run in this process, and its one line of complaint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from align.cli.main import main
from tests.cli.observing import Observed, Seen, observe
from tests.test_configs import CPU, METHOD


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the program; return its one line of complaint."""

    def run(*words: str, code: int = 2) -> str:
        capsys.readouterr()
        ended = main(list(words))
        error = capsys.readouterr().err
        lines = [line for line in error.splitlines() if line.startswith("align ")]
        assert ended == code, error[-2000:]
        assert len(lines) == 1, error[-2000:]
        assert "Traceback" not in error
        assert len(lines[0]) < 500
        return lines[0]

    return run


@pytest.fixture
def fit_words(model_folder: Path, pairs_file: Path) -> list[str]:
    return [
        *("fit", "-c", METHOD, "-c", CPU, "--data", "PreferenceFileDataModule", "--data.path", str(pairs_file)),
        *("--model.backbone.path", str(model_folder)),
    ]


@pytest.fixture(scope="session")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small models, files and vectors that the tests of options share."""
    from tests.cli.things import make

    return make(tmp_path_factory.mktemp("things"))


@pytest.fixture(scope="module")
def recorder() -> list[str]:
    """What servers are asked, and how they are called, while a command runs."""
    return []


@pytest.fixture(scope="module")
def observed(things: Path, recorder: list[str], tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """Run a command once for the whole module and see what it did."""
    known: dict[tuple[str, ...], Seen] = {}

    def run(words: Sequence[str]) -> Seen:
        key = tuple(word.replace("THINGS", str(things)) for word in words)
        if key not in known:
            recorder.clear()
            known[key] = observe(key, tmp_path_factory.mktemp("run") / "here", recorder)
        return known[key]

    return run
