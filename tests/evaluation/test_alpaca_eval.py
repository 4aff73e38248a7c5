"""AlpacaEval's figures: published ones met by the command, and the package's own on tables made here."""

from __future__ import annotations

import csv
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from align.cli.main import main
from align.errors import DataError
from align.evaluation.instruction_places import places_of
from align.evaluation.length_control import Gamed, length_controlled, read_gamed

ROW = {"instruction": "a", "output_1": "base", "output_2": "ours", "generator_2": "m", "preference": 2}


def wave(number: int) -> float:
    return math.sin(1.7 * number)


def gamed_table(folder: Path) -> Path:
    """Write a table of two gamed baselines on a hundred instructions."""
    with (folder / "gamed.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["index", "instruction_difficulty", "std_delta_len", "preference", "not_gamed_baseline", "model"]
        )
        for model in range(2):
            for i in range(100):
                chance = 1 / (1 + math.exp(-2 * wave(i) - math.cos(0.3 * i)))
                writer.writerow([i, wave(i), math.cos(0.3 * i + model), round(chance, 6), False, f"g{model}"])
    return folder / "gamed.csv"


@pytest.mark.parametrize("model", ["alpaca-7b", "vicuna-7b"])
def test_the_published_row_is_met(shared: Path, model: str) -> None:
    folder = shared / "alpaca-eval"
    with (folder / "leaderboard.csv").open() as file:
        published = next(row for row in csv.DictReader(file) if row[""] == model)
    words = ["benchmark", "alpaca-eval", "--annotations", str(folder / f"annotations/{model}.jsonl.gz")]
    assert main([*words, "--leaderboard", "board.csv"]) == 0
    with Path("board.csv").open() as file:
        (found,) = csv.DictReader(file)
    assert list(found) == list(published)
    for name in ("win_rate", "standard_error", "discrete_win_rate", "n_wins", "n_wins_base", "n_draws", "n_total"):
        assert float(found[name]) == pytest.approx(float(published[name]), abs=1e-10)
    assert found["avg_length"] == published["avg_length"]
    assert found["length_controlled_winrate"] == ""


def test_the_length_controlled_rate_of_the_package(tmp_path: Path) -> None:
    """Expected: alpaca_eval 0.6.6, `get_length_controlled_winrate`, on these tables (its download replaced)."""
    path = gamed_table(tmp_path)
    lengths = [(100, 100 + 7 * (i % 11)) for i in range(100)]
    scores = [round(1 / (1 + math.exp(-1.5 * wave(i) + 0.5 - 0.1 * (i % 11))), 6) for i in range(100)]
    scores[5] = math.nan
    found = length_controlled(scores, lengths, read_gamed(path))
    assert found == pytest.approx((46.81071326440989, 2.3677625430300298), rel=1e-9)


def test_annotations_are_placed_by_their_instructions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another order gives the rate of the set's own order; a file that lacks rows is not taken as its beginning."""
    table, rows = gamed_table(tmp_path), []
    for i in range(100):
        chance = round(1 / (1 + math.exp(-1.5 * wave(i) + 0.5 - 0.1 * (i % 11))), 6)
        texts = {"instruction": f"q{i}", "output_1": "b" * 100, "output_2": "o" * (100 + 7 * (i % 11))}
        rows.append({**ROW, **texts, "preference": 1 + chance})
    Path("set.json").write_text(json.dumps([{"instruction": row["instruction"], "dataset": "d"} for row in rows]))
    words = ["benchmark", "alpaca-eval", "--difficulty", str(table), "--out", "o.json", "--annotations", "a.json"]
    rates = []
    for shown, more in ((rows, []), (rows[::-1], ["--baseline", "set.json"])):
        Path("a.json").write_text(json.dumps(shown))
        assert main([*words, *more]) == 0
        rates.append(json.loads(Path("o.json").read_text())["models"]["m"]["length_controlled_winrate"])
    assert rates[1] == pytest.approx(rates[0], rel=1e-12)
    Path("a.json").write_text(json.dumps(rows[20:]))
    assert main(words) == 2
    assert "there are 80 annotations, so that their places are not known" in capsys.readouterr().err
    assert main([*words, "--baseline", "set.json"]) == 0
    Path("set.json").write_text(json.dumps([{"instruction": "q1", "dataset": "d"}]))
    assert main([*words, "--baseline", "set.json"]) == 2
    assert "set.json has 1 instructions and the table of difficulties 100" in capsys.readouterr().err


def test_alpaca_evals_own_set_in_another_order_is_seen(shared: Path) -> None:
    """All 805 annotations sorted by preference: each would have got the difficulty of another instruction."""
    with gzip.open(shared / "alpaca-eval/annotations/alpaca-7b.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    gamed = Gamed({n: 0.1 * wave(n) for n in range(805)}, np.zeros((2, 3)), np.array([0.2, 0.7]))
    in_order = [row["instruction"] for row in rows]
    assert places_of(in_order, None, gamed) == list(range(805))
    sorted_rows = [row["instruction"] for row in sorted(rows, key=lambda row: row["preference"])]
    with pytest.raises(DataError, match=r"instructions in another order than the set's.* in --baseline"):
        places_of(sorted_rows, None, gamed)
    assert places_of(sorted_rows, in_order, gamed) == [in_order.index(text) for text in sorted_rows]


def test_nulls_and_zeros_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**ROW, "instruction": str(n), "preference": p} for n, p in enumerate((2, 1, 0, None))]
    Path("a.json").write_text(json.dumps(rows))
    assert main(["benchmark", "alpaca-eval", "--annotations", "a.json", "--out", "o.json"]) == 0
    said = capsys.readouterr().out
    assert "m: 1 of 4 annotations hold no preference (null) and are left out" in said
    assert "m: 1 of 4 annotations are 0, an old code for a tie" in said
    assert "length-controlled: not computed" in said
    row = json.loads(Path("o.json").read_text())["models"]["m"]
    assert [row[k] for k in ("win_rate", "n_wins", "n_wins_base", "n_draws", "n_total")] == [50, 1, 1, 1, 3]
    assert row["length_controlled_winrate"] is None


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([ROW, ROW, {**ROW, "instruction": "b"}], "1 of 3 annotations of m are of an instruction that stands before"),
        ([{**ROW, "preference": 3}], "row 1: preference 3, expected null, 0"),
        ([{**ROW, "preference": "2"}], "row 1: preference '2'"),
        ([{**ROW, "output_2": None}], "row 1: expected texts in instruction"),
        ([{**ROW, "preference": None}], "none of 1 annotations of m holds a preference"),
    ],
)
def test_bad_annotations(rows: list[dict[str, Any]], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.json").write_text(json.dumps(rows))
    assert main(["benchmark", "alpaca-eval", "--annotations", "a.json"]) == 2
    assert says in capsys.readouterr().err
