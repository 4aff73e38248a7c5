"""Numbers that are not finite, in any format and column: one line with file, place and column, before training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from align.data.helpsteer import HelpSteer
from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.data.ultrafeedback import ASPECTS, UltraFeedback
from align.errors import DataError

pytestmark = pytest.mark.bad_input

PAIR = {"prompt": "Why?", "chosen": "So that", "rejected": "No idea"}
LIST = {"prompt": "Why?", "completions": ["So that", "No idea"]}
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "score_chosen": ({**PAIR, "score_chosen": 1.0, "score_rejected": 0.5}, "score_chosen"),
    "score_rejected": ({**PAIR, "score_rejected": 1.0, "score_chosen": 0.5}, "score_rejected"),
    "margin": ({**PAIR, "margin": 1.0}, "margin"),
    "scores": ({**LIST, "scores": [1.0, 0.5]}, "score"),
    "rewards": ({**LIST, "rewards": [1.0, 0.5]}, "score"),
}


def spoilt(row: dict[str, Any], column: str, value: float) -> dict[str, Any]:
    return {**row, column: [value, 0.5] if isinstance(row[column], list) else value}


def jsonl(rows: list[dict[str, Any]]) -> Path:
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path("data.jsonl")


def parquet(rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), "data.parquet")
    return Path("data.parquet")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("write", [jsonl, parquet])
@pytest.mark.parametrize("column", ROWS)
def test_the_line_names_file_place_and_column(
    write: Callable[[list[dict[str, Any]]], Path], column: str, value: float
) -> None:
    row, name = ROWS[column]
    path = write([row, spoilt({**row, "prompt": "What?"}, column, value)])
    with pytest.raises(DataError, match=rf"^{path}, (line|row) 2: '?{name}'? {value} is not finite"):
        PreferenceFile(str(path)).read("train", Report())


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity"])
def test_texts_are_no_numbers_either(text: str) -> None:
    Path("data.csv").write_text(f"prompt,chosen,rejected,score_chosen,score_rejected\nWhy?,yes,no,{text},1\n")
    with pytest.raises(DataError, match=r"^data.csv, line 2: '?score_chosen"):
        PreferenceFile("data.csv").read("train", Report())


def test_unknown_is_written_as_null() -> None:
    path = jsonl([{**LIST, "scores": [None, 1.0]}])
    (example,) = PreferenceFile(str(path)).read("train", Report())
    assert math.isnan(example.scores[0][0])
    assert (example.scores[1], example.ranking) == ((1.0,), ())


def test_ratings_of_published_data_sets() -> None:
    steer = jsonl([{"prompt": "Why?", "response": "So", "helpfulness": math.nan, "verbosity": 1}])
    with pytest.raises(DataError, match=r"line 1: '?helpfulness'? nan is not finite"):
        HelpSteer(str(steer)).read("train", Report())
    rated = [
        {"response": text, "overall_score": 3.0, "annotations": {a: {"Rating": math.nan} for a in ASPECTS}}
        for text in ("So that", "No idea")
    ]
    raw = jsonl([{"instruction": "Why?", "completions": rated}])
    with pytest.raises(DataError, match=r"line 1: rating of 'instruction_following' is nan"):
        UltraFeedback(str(raw)).read("train", Report())


def test_the_program_says_it_before_a_model_is_loaded(
    shared: Path, capsys: pytest.CaptureFixture[str], model_folder: Path
) -> None:
    from align.cli.main import main

    for name, column in (("nan_scores.jsonl", "score_chosen"), ("inf_margin.jsonl", "margin")):
        file = shared.parent / "cases" / name
        words = ["fit", "--model", "DPOModule", "--model.backbone.path", str(model_folder)]
        assert main([*words, "--data", "PreferenceFileDataModule", "--data.path", str(file)]) == 2
        told = capsys.readouterr().err
        lines = [line for line in told.splitlines() if line.startswith("align ")]
        assert len(lines) == 1
        assert f"{name}, line 1: " in lines[0]
        assert column in lines[0]
        assert "parameters trained" not in told
