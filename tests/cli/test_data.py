"""`align data read`: what is shown of a file, and what a fault looks like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.cli.main import main

ORCA = [
    {"system": "S.", "question": f"Who {n}?", "chosen": f"Good {n}.", "rejected": f"Bad {n}.", "origin": "x"}
    for n in range(4)
]


def read(capsys: pytest.CaptureFixture[str], rows: list[dict], *options: str) -> tuple[int, str, str]:
    Path("data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code = main(["data", "read", "data.jsonl", *options])
    out, err = capsys.readouterr()
    return code, out, err


def test_layout_rows_and_columns_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    odd = {"question": "Who?", "chosen": "x"}
    code, out, err = read(capsys, [*ORCA, odd, {**ORCA[0], "question": "W?", "chosen": "\u200b"}])
    assert (code, err) == (0, "")
    assert "layout: pairs, 6 rows (rows have chosen, rejected, question)" in out
    assert "column not used: origin (first in line 1)" in out
    assert "rows: 6 read, 5 kept" in out
    assert "dropped: 1 no key 'rejected' (line 5)" in out
    assert "no method trains on: 1 empty response (line 6)" in out
    for text in ("system: S.", "user: Who 0?", "Good 2.", "Bad 2."):
        assert text in out
    assert "Good 3." not in out  # three rows


def test_faults_are_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": "Who?", "taken": "a", "passed": "b"}]
    code, _, err = read(capsys, rows)
    assert code == 2
    assert err.startswith("align data read: data.jsonl, line 1: columns question, taken, passed fit no convention")
    assert err.count("\n") == 1
    code, out, _ = read(capsys, rows, "--columns", "{prompt: question, chosen: taken, rejected: passed}")
    assert (code, "user: Who?" in out) == (0, True)
    code, _, err = read(capsys, rows, "--columns", "{question: prompt, taken: chosen}")
    assert (code, "wrong way round" in err) == (2, True)
    code, out, err = read(capsys, [{"prompt": 3, "chosen": "a", "rejected": "b"}])
    assert (code, "1 of 1 rows cannot be used" in err, "rows: 1 read, 0 kept" in out) == (2, True, True)
    assert main(["data", "reed", "x"]) == 2
    assert "did you mean 'read'?" in capsys.readouterr().err


def test_export_writes_and_tells(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.jsonl").write_text("\n".join(map(json.dumps, [*ORCA, {"question": "Who?", "chosen": "x"}])))
    assert main(["data", "export", "data.jsonl", "--out", "out.jsonl", "--view", "pairs"]) == 0
    out = capsys.readouterr().out
    for line in ("column not used: origin", "rows: 5 read, 4 kept", "dropped: 1 no key 'rejected' (line 5)"):
        assert line in out
    assert "out.jsonl: 4 pairs, columns id, prompt, chosen, rejected" in out
    first = json.loads(Path("out.jsonl").read_text().splitlines()[0])
    turns = [{"role": "system", "content": "S."}, {"role": "user", "content": "Who 0?"}]
    assert first["prompt"] == turns


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--view", "pairs"], "required: --out"),
        (["--out", "out.csv", "--view", "pairs"], "ends in .jsonl or .parquet"),
        (["--out", "data.jsonl", "--view", "pairs"], "is the file that is read"),
        (["--out", "out.jsonl", "--view", "lists", "--split", "val"], "--split val: data.jsonl has train"),
        (["--out", "out.jsonl", "--view", "unpaired", "--columns", "{prompt: nothing}"], "no column 'nothing'"),
    ],
)
def test_export_refuses_in_one_line(capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    Path("data.jsonl").write_text("\n".join(map(json.dumps, ORCA)))
    assert main(["data", "export", "data.jsonl", *words]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert {path.name for path in Path().glob("*")} <= {"data.jsonl"}
