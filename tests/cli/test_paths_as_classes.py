"""A file where a class is to be named is answered by the command that reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.cli.main import main
from tests.cli.things import lines

MODEL = ["--model.backbone.path", "nowhere"]
CASES = [
    (["fit", "-c", "dpo", *MODEL, "--data", "pairs.jsonl"], "--data PreferenceFileDataModule --data.path pairs.jsonl"),
    (["check", "-c", "dpo", *MODEL, "--data=./pairs"], "--data PreferenceFileDataModule --data.path ./pairs"),
    (
        ["benchmark", "preferences", "--policies", "[x]", "--data", "pairs.jsonl"],
        "--data PreferenceFileDataModule --data.path pairs.jsonl",
    ),
    (
        ["evaluate", "--models.a", "x.jsonl", "--prompts", "pairs.jsonl", "--scorer", "./rm.1"],
        "--scorer RewardFolder --scorer.path ./rm.1",
    ),
    (
        ["generate", "--model.path", "x", "--prompt", "a", "--server", "http://localhost:8000/v1"],
        "--server.base_url http://localhost:8000/v1 --server.model NAME",
    ),
]
"""What somebody types, and what the line says to type: it was `outside the packages`, or a class list, or YAML's."""


@pytest.mark.parametrize(("words", "way_out"), CASES, ids=[" ".join(words[:2]) for words, _ in CASES])
def test_the_line_has_the_way_out(words: list[str], way_out: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines(Path("pairs.jsonl"), [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    for folder in ("pairs", "rm.1"):
        Path(folder).mkdir()
    assert main(words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("align ")]
    assert way_out in line


def test_files_where_files_are_meant_and_settings_of_classes_are_left_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines(Path("pairs.jsonl"), [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    Path("data.yaml").write_text("class_path: PreferenceFileDataModule\ninit_args: {path: missing.jsonl}\n")
    for words in (
        ["fit", "-c", "dpo", *MODEL, "--data", "data.yaml"],
        ["benchmark", "rewards", "--models", "[nowhere]", "--data", "pairs.jsonl"],
        ["data", "rank", "--data", "pairs.jsonl", "--rewards", "./nowhere", "--out", "o.jsonl"],
    ):
        assert main(words) != 0  # of the model that is nowhere
        assert "expected a class" not in capsys.readouterr().err
