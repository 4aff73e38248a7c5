"""Files with a JSON object per line: appended to after a kill, read by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.errors import DataError
from align.evaluation.run_log import append, read_numbers, read_table


def test_a_line_cut_by_a_kill_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    for step in range(2):
        append(path, {"step": step, "loss": 1.0 - step})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 2, "lo')
    assert read_numbers(path) == {"loss": {0: 1.0, 1: 0.0}}
    append(path, {"step": 2, "loss": 5})
    assert path.read_bytes() == whole + b'{"step": 2, "loss": 5}\n'
    path.write_bytes(b'{"st')
    append(path, {"step": 0, "loss": 1})
    assert path.read_bytes() == b'{"step": 0, "loss": 1}\n'


def test_the_last_number_of_a_step_counts_and_lines_of_a_step_add_up(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for row in ({"step": 4, "a": 1}, {"step": 4, "b": 2}, {"step": 4, "a": 3}, {"step": 5, "a": float("nan")}):
        append(path, row)
    found = read_numbers(path)
    assert found["b"] == {4: 2.0}
    assert found["a"][4] == 3.0
    assert found["a"][5] != found["a"][5]


@pytest.mark.parametrize("line", ["[1]", '{"loss": 1}', "{", '{"step": 1, "loss": "x"}'])
def test_lines_of_others_are_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"metrics.jsonl, (line|step) 1: "):
        read_numbers(path)


def test_the_last_table_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    for step, name in enumerate(("samples", "rewards/samples", "samples", "rewards/samples")):
        append(path, {"step": step, "name": name, "rows": [["p", f"{name} {step}"]]})
    assert read_table(path, "samples") == [("p", "samples 2")]
    assert read_table(tmp_path / "none.jsonl", "samples") == []
