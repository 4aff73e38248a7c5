"""One odd row is a dropped, counted row with its reason and line; a file of them stops, in one line."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.data.views import Pairs, Singles, Unpaired
from align.errors import DataError
from align.records import Message

PAIR = {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad."}
ODD = [
    {"prompt": "Hi", "chosen": "Good."},
    {"prompt": 3, "chosen": "a", "rejected": "b"},
    {"prompt": "Hi", "chosen": "Good.", "rejected": None},
    {"prompt": "Hi", "chosen": ["x"], "rejected": "b"},
    {"prompt": "Hi", "chosen": [{"role": "robot", "content": "x"}], "rejected": [{"role": "robot", "content": "y"}]},
    {"error": "timeout"},
    {},
    {"prompt": "Hi\0", "chosen": "a", "rejected": "b"},
    {"prompt": "Hi \ud800", "chosen": "a", "rejected": "b"},
    {"prompt": "Hi", "chosen": "a", "rejected": "b", "score_chosen": "high", "score_rejected": "low"},
    {"prompt": "Hi", "completion": "a", "label": "maybe"},
]


def write(tmp_path: Path, *rows: Any) -> PreferenceFile:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return PreferenceFile(str(path))


@pytest.mark.bad_input
@pytest.mark.parametrize("row", [*ODD, "not json", "[1, 2]"])
def test_one_odd_row_is_dropped_with_its_line(tmp_path: Path, row: Any) -> None:
    report = Report()
    good = [{**PAIR, "prompt": f"Hi {n}"} for n in range(4)]
    kept = write(tmp_path, good[0], row, *good[1:]).read("train", report)
    assert (len(kept), report.read, report.odd) == (4, 5, 1)
    ((place, *more),) = report.ids.values()
    assert (place, more) == ("line 2", [])


def test_a_first_row_that_is_odd_decides_nothing(tmp_path: Path) -> None:
    report = Report()
    assert len(write(tmp_path, {"error": "x"}, PAIR, {**PAIR, "prompt": "Ho"}).read("train", report)) == 2
    assert report.layouts == {"pairs": 2}


@pytest.mark.bad_input
def test_more_than_half_odd_stops_and_says_why(tmp_path: Path) -> None:
    half, report = [PAIR, {**PAIR, "prompt": "Ho"}], Report()
    assert len(write(tmp_path, *half, *ODD[:2]).read("train", report)) == 2
    with pytest.raises(
        DataError, match=r"3 of 5 rows cannot be used, the first: .*line 3: no key 'rejected'"
    ) as caught:
        write(tmp_path, *half, *ODD[:3]).read("train", Report())
    assert "\n" not in str(caught.value)


@pytest.mark.bad_input
@pytest.mark.parametrize("text", [" \t", "\u200b", "\ufeff", "\u2060\u00ad", "\u3164", "\u2800", "\u200e\n"])
def test_answers_that_show_nothing_are_dropped(tmp_path: Path, text: str) -> None:
    report = Report()
    examples = write(tmp_path, {**PAIR, "chosen": text}, PAIR).read("train", report)
    assert len(Pairs().apply(examples, report)) == 1
    assert report.dropped == {"empty response": 1}


def test_sft_leaves_undesirable_rows_out_and_says_so(tmp_path: Path) -> None:
    rows = [{"prompt": f"Hi {n}", "completion": "a", "label": n == 0} for n in range(4)]
    report = Report()
    examples = write(tmp_path, *rows).read("train", report)
    for view in (Singles(), Singles("all"), Singles("random")):
        found = Report(read=4)
        assert [g.messages for g in view.apply(examples, found)] == [(Message("user", "Hi 0"),)]
        assert found.dropped == {"undesirable response, which is not trained on": 3}
        found.check("data")  # three of four rows are left out by the method: no fault of the file
    assert len(Unpaired().apply(examples, Report())) == 4


class TestFiles:
    def test_line_ends_and_byte_order_marks(self, tmp_path: Path) -> None:
        rows = [json.dumps({**PAIR, "prompt": p}) for p in ("a", "b \u2028 c")]
        for text in ("\r".join(rows), "\r\n".join(rows), "\ufeff" + "\n\ufeff".join(rows)):
            (tmp_path / "a.jsonl").write_text(text, newline="")
            found = PreferenceFile(str(tmp_path / "a.jsonl")).read("train", Report())
            assert [e.messages[0].content for e in found] == ["a", "b \u2028 c"]

    @pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e", "\n", "\r\n"])
    def test_cells_with_line_separators(self, tmp_path: Path, separator: str) -> None:
        text = f'prompt\r\n"one{separator}two"\r\nthree\r\n'
        (tmp_path / "a.csv").write_text(text, newline="")
        found = PreferenceFile(str(tmp_path / "a.csv")).read("train", Report())
        assert [e.messages[0].content for e in found] == [f"one{separator}two", "three"]

    def test_tables_with_numbers_truth_values_and_dialogues(self, tmp_path: Path) -> None:
        dialogue = [{"role": "user", "content": 'He said, "Hi"'}, {"role": "assistant", "content": "Good, it's"}]
        for shown in (json.dumps(dialogue), str(dialogue)):
            with (tmp_path / "a.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerows([("messages", "label", "weight"), (shown, "True", "0.5"), (shown, "", "")])
            first, second = PreferenceFile(str(tmp_path / "a.csv")).read("train", Report())
            assert first.messages[0].content == 'He said, "Hi"'
            assert (first.responses, first.scores, first.weight) == (("Good, it's",), ((1.0,),), 0.5)
            assert (second.scores, second.weight) == ((), 1.0)

    @pytest.mark.bad_input
    def test_a_table_cut_at_semicolons_and_a_short_row(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("prompt;chosen;rejected\na;b;c\nshort;row\nd;e;f\n")
        report = Report()
        assert len(PreferenceFile(str(tmp_path / "a.csv")).read("train", report)) == 2
        assert report.dropped == {"expected 3 columns as in the header": 1}

    def test_a_row_of_ten_megabytes(self, tmp_path: Path) -> None:
        report = Report()
        found = write(tmp_path, PAIR, {**PAIR, "prompt": "x" * 10_000_000}).read("train", report)
        assert (len(found), report.odd) == (2, 0)

    def test_shards_of_a_folder_and_splits_by_their_names(self, tmp_path: Path) -> None:
        for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001", "train_gen-00000-of-00001"):
            rows = [{**PAIR, "prompt": f"{name} {n}"} for n in range(2)]
            (tmp_path / "data").mkdir(exist_ok=True)
            datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "data" / f"{name}.parquet"))
        (tmp_path / "dataset_info.json").write_text("{}")
        source, report = PreferenceFile(str(tmp_path)), Report()
        assert len(source.read("train", report)) == 4
        assert len(source.read("test", Report())) == 2
        assert report.notes == ["not read: train_gen"]

    @pytest.mark.bad_input
    def test_mixed_layouts_of_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text(json.dumps(PAIR))
        (tmp_path / "b.jsonl").write_text(json.dumps({"prompt": "Hi", "completion": "x"}))
        with pytest.raises(DataError, match=r"mixed layouts, .*a.jsonl \(pairs\) and .*b.jsonl \(responses\)"):
            PreferenceFile(str(tmp_path)).read("train", Report())

    def test_folders_that_save_to_disk_wrote(self, tmp_path: Path) -> None:
        """RAHF's release has three of them side by side; a folder with splits is the other form."""
        rows = datasets.Dataset.from_list([{**PAIR, "prompt": f"Hi {n}"} for n in range(3)])
        for name in ("rm", "ppo", "test"):
            rows.save_to_disk(str(tmp_path / "apart" / name))
        datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(str(tmp_path / "splits"))
        assert len(PreferenceFile(str(tmp_path / "apart" / "rm")).read("train", Report())) == 3
        apart = PreferenceFile(str(tmp_path / "apart"))
        assert apart.split_names() == {"train": ["ppo", "rm"], "val": [], "test": ["test"]}
        splits = PreferenceFile(str(tmp_path / "splits"))
        assert [len(splits.read(s, Report())) for s in ("train", "test")] == [3, 1]

    @pytest.mark.bad_input
    def test_damage_anywhere_in_a_gzip_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl.gz"
        rows = [{**PAIR, "prompt": f"{n * 7919 % 1000} {n}"} for n in range(3000)]
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
        whole = path.read_bytes()
        for place in range(200, len(whole), len(whole) // 12):
            path.write_bytes(whole[:place] + bytes(b ^ 0xFF for b in whole[place : place + 64]) + whole[place + 64 :])
            with pytest.raises(DataError, match="damaged gzip file"):
                PreferenceFile(str(path)).read("train", Report())

    @pytest.mark.bad_input
    def test_damage_anywhere_in_a_parquet_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        table = pa.table({name: [f"{name} {n}" for n in range(3000)] for name in PAIR})
        pq.write_table(table, path, write_page_checksum=True, use_dictionary=False)
        whole = path.read_bytes()
        for place in range(200, len(whole), len(whole) // 12):
            for broken in (whole[:place], whole[:place] + bytes(64) + whole[place + 64 :]):
                path.write_bytes(broken)
                with pytest.raises(DataError) as caught:
                    PreferenceFile(str(path)).read("train", Report())
                assert "\n" not in str(caught.value)


ASKED = [{"prompt": f"What is {n} and one?", "chosen": f"It is {n + 1}.", "rejected": f"It is {n}."} for n in range(5)]


def told(tmp_path: Path, change: Any, count: int = 3) -> list[str]:
    """Warnings about a file of which some rows are changed."""
    report = Report()
    assert len(write(tmp_path, *map(change, ASKED[:count]), *ASKED[count:]).read("train", report)) == 5
    return report.warnings


def repeating(row: dict[str, str]) -> dict[str, str]:
    return {**row, **{side: f"{row['prompt']}\n{row[side]}" for side in ("chosen", "rejected")}}


def against(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "chosen_score": 1.0, "rejected_score": 2.0}


def test_answers_that_repeat_their_prompt_are_told(tmp_path: Path) -> None:
    assert told(tmp_path, repeating, 2) == []
    (found,) = told(tmp_path, repeating)
    assert found.startswith("in 3 of 5 rows every response begins with its own prompt")


def test_scores_against_the_ranking_are_told(tmp_path: Path) -> None:
    (found,) = told(tmp_path, against)
    assert found.startswith("in 3 of 3 rows the response ranked best has the lower score")
    assert told(tmp_path, lambda row: {**against(row), "chosen_score": 2.5}) == []


def test_minus_one_is_an_undesirable_answer(tmp_path: Path) -> None:
    rows = [{"prompt": f"Hi {n}", "completion": "There.", "label": n} for n in (1, -1)]
    assert [example.scores for example in write(tmp_path, *rows).read("train", Report())] == [((1.0,),), ((0.0,),)]
