"""The program run in this process, and its one line of complaint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from align.cli.main import main
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
