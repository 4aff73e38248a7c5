"""Columns for reward functions in the data sets with layouts of their own: HH-RLHF, HelpSteer, UltraFeedback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from align.data.drop_report import Report
from align.data.helpsteer import HelpSteer
from align.data.hh_rlhf import HHRLHF
from align.data.keeping_source import KeepingSource
from align.data.ultrafeedback import UltraFeedback
from align.errors import ConfigError, DataError

ATTRIBUTES = dict.fromkeys(("helpfulness", "correctness", "coherence", "complexity", "verbosity"), 3)
HH = {"chosen": "\n\nHuman: 1 + 2?\n\nAssistant: 3", "rejected": "\n\nHuman: 1 + 2?\n\nAssistant: 4"}
RATED = {"prompt": "1 + 2?", "response": "3", **ATTRIBUTES}
COMPARED = {"prompt": "1 + 2?", "response_1": "3", "response_2": "4", "preference_strength": -2}
BINARIZED = {
    "prompt": "1 + 2?",
    "chosen": [{"role": "user", "content": "1 + 2?"}, {"role": "assistant", "content": "3"}],
    "rejected": [{"role": "user", "content": "1 + 2?"}, {"role": "assistant", "content": "4"}],
}


def source(kind: type[KeepingSource], *rows: dict[str, Any], **options: Any) -> KeepingSource:
    Path("data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return kind("data.jsonl", **options)


@pytest.mark.parametrize(
    ("kind", "row"),
    [(HHRLHF, HH), (HelpSteer, RATED), (HelpSteer, COMPARED), (UltraFeedback, BINARIZED)],
    ids=["hh", "helpsteer", "helpsteer-pairs", "ultrafeedback"],
)
def test_a_column_is_kept_and_known_by(kind: type[KeepingSource], row: dict[str, Any]) -> None:
    report, rows = Report(), [row | {"answer": ["#### 3"], "note": "x"}]
    with_it, plain = source(kind, *rows, keep_columns=["answer"]), source(kind, *rows)
    (example,), (without,) = with_it.read("train", report), plain.read("train", Report())
    assert (example.kept, without.kept) == ({"answer": ["#### 3"]}, {})
    assert (example.responses, example.messages) == (without.responses, without.messages)
    assert with_it.fingerprint() != plain.fingerprint()
    assert set(report.unused) == {"note"}
    with pytest.raises(ConfigError, match=r"no column 'anwser' \(did you mean answer\?\)|no column 'anwser'"):
        source(kind, *rows, keep_columns=["anwser"]).read("train", Report())


def test_rows_of_one_prompt_hold_one_value() -> None:
    rows = [RATED | {"answer": "3"}, RATED | {"response": "4", "answer": "3"}]
    (example,) = source(HelpSteer, *rows, keep_columns=["answer"]).read("train", Report())
    assert (example.responses, example.kept) == (("3", "4"), {"answer": "3"})
    rows[1]["answer"] = "4"
    with pytest.raises(DataError, match=r"line 2: data.keep_columns \['answer'\] says something else than .*line 1"):
        source(HelpSteer, *rows, keep_columns=["answer"]).read("train", Report())
