"""HH-RLHF: the transcript parser, the folder layouts, and the counts of the real test file."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from align.data.hh_rlhf import HHRLHF, SUBSETS
from align.data.source import DroppedRow, Report
from align.data.transcripts import parse_transcript, read_answers, read_context, read_dialogue
from align.data.views import Pairs
from align.errors import ConfigError, DataError
from align.records import Message


def write(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(map(json.dumps, rows))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def row(chosen: str = "Good.", rejected: str = "Bad.", context: str = "\n\nHuman: Hi") -> dict[str, str]:
    return {"chosen": f"{context}\n\nAssistant: {chosen}", "rejected": f"{context}\n\nAssistant: {rejected}"}


class TestTranscripts:
    def test_paragraphs_stay_in_their_turn(self) -> None:
        text = "\n\nHuman: List two\n\nplease\n\nAssistant: Sure:\n\n1. one\n\n2. two"
        assert parse_transcript(text) == [
            Message("user", "List two\n\nplease"),
            Message("assistant", "Sure:\n\n1. one\n\n2. two"),
        ]

    def test_turns_of_one_role_are_merged(self) -> None:
        text = "\n\nHuman: a\n\nHuman: b\n\nAssistant: c\n\nAssistant: d"
        assert parse_transcript(text) == [Message("user", "a\n\nb"), Message("assistant", "c\n\nd")]

    def test_a_marker_inside_a_line_is_text(self) -> None:
        assert parse_transcript("\n\nHuman: say Human: x\nAssistant: y") == [
            Message("user", "say Human: x\nAssistant: y")
        ]

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("Hello", "no 'Human:' marker"),
            ("preface\n\nHuman: a\n\nAssistant: b", "no 'Human:' marker"),
            ("\n\nAssistant: a", "first turn is not the human's"),
            ("\n\nHuman: a", "last turn is not the assistant's"),
            ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "last turn is not the assistant's"),
        ],
    )
    def test_unusable_dialogues_are_dropped_by_reason(self, text: str, reason: str) -> None:
        with pytest.raises(DroppedRow, match=reason):
            read_dialogue(text)

    def test_contexts_may_be_plain_or_end_with_an_open_tag(self) -> None:
        assert read_context("Just a question") == [Message("user", "Just a question")]
        assert read_context("\n\nHuman: a\n\nAssistant:") == [Message("user", "a")]
        with pytest.raises(DroppedRow):
            read_context("\n\nHuman: a\n\nAssistant: b")


class TestRows:
    def test_rows_are_kept_or_counted(self, tmp_path: Path) -> None:
        rows = [
            row(),
            {"chosen": row()["chosen"], "rejected": row(context="\n\nHuman: Other")["rejected"]},
            {"chosen": "no marker", "rejected": "no marker"},
            row(chosen=""),
            row(chosen="Same.", rejected="Same."),
            row(rejected="   "),
            row(chosen="nul \0"),
            row(rejected="half \ud800 pair"),
            row(context="\n\nHuman: \ud800"),
        ]
        report = Report()
        examples = HHRLHF(str(write(tmp_path / "a.jsonl", rows))).read("train", report)
        pairs = Pairs().apply(examples, report)
        assert len(pairs) == 1
        assert pairs[0].responses == ("Good.", "Bad.")
        assert report.dropped == Counter(
            {
                "chosen and rejected have different contexts": 1,
                "no 'Human:' marker at the start": 1,
                "empty response": 2,
                "identical responses": 1,
                "NUL character in the text": 1,
                "lone surrogate in the text": 2,
            }
        )
        assert report.ids["identical responses"] == ["line 5"]
        assert report.read == 9

    def test_columns_of_the_other_variant(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "a.jsonl", [{"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": " Good.", "rejected": " Bad."}]
        )
        example = HHRLHF(str(path)).read("train", Report())[0]
        assert (example.messages, example.responses) == ((Message("user", "Hi"),), ("Good.", "Bad."))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"chosen": None}, "line 1: 'chosen' is null, expected text"),
            ({"chosen": 3}, "line 1: 'chosen' is int '3', expected text"),
            ({"chosne": "x"}, "line 1: no key 'chosen', did you mean 'chosne'"),
        ],
    )
    def test_damaged_rows_are_refused_by_line_and_key(self, tmp_path: Path, changes: dict, message: str) -> None:
        damaged = {**row(), **changes}
        if "chosne" in damaged:
            del damaged["chosen"]
        with pytest.raises(DataError, match=message):
            HHRLHF(str(write(tmp_path / "a.jsonl", [damaged]))).read("train", Report())


class TestFolders:
    def official(self, root: Path, subsets: tuple[str, ...] = SUBSETS) -> Path:
        for number, subset in enumerate(subsets):
            write(
                root / subset / "train.jsonl.gz", [row(context=f"\n\nHuman: {subset} {i}") for i in range(number + 1)]
            )
            write(root / subset / "test.jsonl.gz", [row(context=f"\n\nHuman: test {subset}")])
        return root

    def test_official_folder_reads_all_subsets_or_some(self, tmp_path: Path) -> None:
        folder = self.official(tmp_path / "hh")
        everything = HHRLHF(str(folder))
        assert len(everything.read("train", Report())) == 1 + 2 + 3 + 4
        assert len(everything.read("test", Report())) == 4
        assert everything.read("train", Report())[0].id == "harmless-base/train.jsonl.gz, line 1"
        assert len(HHRLHF(str(folder), subsets=["helpful-online"]).read("train", Report())) == 3
        assert len(HHRLHF(str(folder / "helpful-base")).read("train", Report())) == 2

    def test_missing_and_unknown_subsets_are_named(self, tmp_path: Path) -> None:
        folder = self.official(tmp_path / "hh", SUBSETS[:2])
        with pytest.raises(ConfigError, match="no files in helpful-online, helpful-rejection-sampled"):
            HHRLHF(str(folder)).files()
        with pytest.raises(ConfigError, match="subsets must be some of"):
            HHRLHF(str(folder), subsets=["harmless"])

    def test_the_layout_of_the_hub_in_a_local_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "hub"
        for subset in SUBSETS[:2]:
            write(folder / subset / "data" / "train.jsonl", [row(context=f"\n\nHuman: {subset}")])
        source = HHRLHF(str(folder), subsets=SUBSETS[:2])
        assert [e.messages[0].content for e in source.read("train", Report())] == list(SUBSETS[:2])

    def test_a_name_that_is_nothing_says_so(self) -> None:
        with pytest.raises(DataError, match=r"data\.path 'Anthropic/hh-rlf': no such file, and it could not be loaded"):
            HHRLHF("Anthropic/hh-rlf").read("train", Report())

    def test_only_a_test_split_is_not_taken_for_training_data(self, tmp_path: Path) -> None:
        write(tmp_path / "only" / "test.jsonl", [row()])
        with pytest.raises(DataError, match="no training split, only test"):
            HHRLHF(str(tmp_path / "only")).split_names()


def test_counts_of_the_real_file(shared: Path) -> None:
    """2312 rows, 2312 equal contexts, 1650 with more than one exchange, 2310 prompts, 4 empty chosen responses."""
    report = Report()
    examples = HHRLHF(str(shared / "hh-rlhf-harmless-base" / "test.jsonl.gz")).read("train", report)
    assert (report.read, len(examples), report.dropped) == (2312, 2312, Counter())
    assert sum(len(e.messages) > 1 for e in examples) == 1650
    assert len({e.messages for e in examples}) == 2310
    pairs = Pairs().apply(examples, report)
    assert report.dropped["empty response"] == 4
    assert len(pairs) == 2312 - sum(report.dropped.values())


def test_what_two_dialogues_share_is_parsed_once_with_the_same_result() -> None:
    draw = random.Random(0)
    pieces = ["\n\nHuman: ", "\n\nAssistant:", "\n\nAssistant: ", " a", "b ", "\n\n", " ", "Human:", "\n\nHuman:"]

    def made(length: int) -> str:
        return "".join(draw.choices(pieces, k=length))

    def apart(chosen: str, rejected: str) -> object:
        dialogues = [read_dialogue(text) for text in (chosen, rejected)]
        if dialogues[0][:-1] != dialogues[1][:-1]:
            raise DroppedRow("chosen and rejected have different contexts")
        return dialogues[0][:-1], [dialogue[-1].content for dialogue in dialogues]

    def result(read: Callable[[str, str], object], pair: tuple[str, str]) -> object:
        try:
            return read(*pair)
        except DroppedRow as reason:
            return str(reason)

    found = Counter[str]()
    for _ in range(20_000):
        head = "\n\nHuman: q" + made(draw.randrange(3)) + "\n\nAssistant:"
        pair = head + made(draw.randrange(4)), head + made(draw.randrange(4))
        same = result(apart, pair)
        assert result(read_answers, pair) == same, pair
        found[same if isinstance(same, str) else "read"] += 1
    assert min(found["read"], found["chosen and rejected have different contexts"]) > 1000
