"""`align init world`: what is refused, and a folder that is there already."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from align.cli.main import main
from align.models.folder_checks import BASE_REPORT
from align.world.universe import World

SETTINGS = {
    **asdict(World()),
    **{"hidden_size": 128, "num_hidden_layers": 4, "checked_rows": 16_000, "rows": 22_000, "seed": 0},
}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--rows", "10"], "rows must be at least 1000"),
        (["--world.entities", "0"], "world.entities must lie in 1..64, got 0"),
        (["--world.facts", "12"], "world.facts must lie in 1..6, got 12"),
        (["--wrold.facts", "2"], "wrold"),
    ],
)
def test_bad_settings_are_one_line(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "world", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert named in error
    assert "\n" not in error


def test_the_same_settings_are_not_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / BASE_REPORT).write_text(json.dumps({"settings": SETTINGS, "faults": []}))
    assert main(["init", "world", "--out", str(tmp_path / "base")]) == 0
    assert "made with the same settings" in capsys.readouterr().out
    assert main(["init", "world", "--out", str(tmp_path / "base"), "--seed", "1"]) == 2
    assert "made with other settings" in capsys.readouterr().err
