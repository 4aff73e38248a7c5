"""Two answers in columns of their own and a verdict: every way in which it may name one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from align.data.source import Report
from align.errors import DataError
from tests.data.test_layouts import read

FIRST, SECOND, TIE = ((0,), (1,)), ((1,), (0,)), ((0, 1),)


def row(first: str, second: str, **more: Any) -> dict[str, Any]:
    return {"prompt": "Hi", first: "Good.", second: "Bad.", **more}


@pytest.mark.parametrize(
    ("row", "ranking"),
    [
        (row("response_a", "response_b", winner="a"), FIRST),
        (row("response_a", "response_b", winner="model_b"), SECOND),
        (row("response_a", "response_b", preference="tie (bothbad)"), TIE),
        (row("response_A", "response_B", label="A>B"), FIRST),
        (row("response_A", "response_B", label="B >> A"), SECOND),
        (row("response_A", "response_B", label="A<B"), SECOND),
        (row("response_A", "response_B", verdict="[[A=B]]"), TIE),
        (row("answerA", "answerB", choice="Answer B"), SECOND),
        (row("response_0", "response_1", preference=1), SECOND),
        (row("response_0", "response_1", preference=0.0), FIRST),
        (row("output_1", "output_2", label=1), FIRST),
        (row("output_1", "output_2", label="2"), SECOND),
        (row("completion1", "completion2", better="completion2"), SECOND),
        (row("response_1", "response_2", chosen="Bad."), SECOND),
        (row("summary_1", "summary_2", chosen="summary_1"), FIRST),
    ],
)
def test_verdicts(row: dict[str, Any], ranking: Any, tmp_path: Path) -> None:
    (example,) = read(tmp_path, row)
    assert (example.messages[-1].content, example.responses) == ("Hi", ("Good.", "Bad."))
    assert example.ranking == ranking


def test_a_verdict_that_names_none_drops_the_row(tmp_path: Path) -> None:
    report = Report()
    good = [row("response_a", "response_b", winner="a", id=str(i)) for i in range(3)]
    odd = [row("response_a", "response_b", winner=w, id=w) for w in ("c", "0.7")]
    assert len(read(tmp_path, *good, *odd, report=report)) == 3
    assert report.dropped == {"'winner' names neither of response_a and response_b": 2}


@pytest.mark.parametrize(("columns", "label"), [(("output_1", "output_2"), 0), (("output_0", "output_1"), "2")])
def test_numbers_that_count_from_elsewhere_end_the_run(columns: tuple[str, str], label: Any, tmp_path: Path) -> None:
    rows = [row(*columns, label=1, id=str(i)) for i in range(9)]
    with pytest.raises(DataError, match=r"line 10: 'label' is . beside .* counts from elsewhere .*--data.columns '\{"):
        read(tmp_path, *rows, row(*columns, label=label))


def test_the_line_that_is_told_is_right(tmp_path: Path) -> None:
    rows = [row("output_1", "output_2", label=n, id=str(n)) for n in (0, 1)]
    found = read(tmp_path, *rows, columns={"output_0": "output_1", "output_1": "output_2"})
    assert [e.ranking for e in found] == [FIRST, SECOND]


def test_pairs_that_say_chosen_and_rejected_stay_pairs(tmp_path: Path) -> None:
    both = row("response_a", "response_b", chosen="Good.", rejected="Worst.")
    (example,) = read(tmp_path, both)
    assert example.responses == ("Good.", "Worst.")


def test_answers_of_stack_exchange(tmp_path: Path) -> None:
    answers = [{"text": "Bad.", "pm_score": 0, "selected": False}, {"text": "Good.", "pm_score": 3, "selected": True}]
    (example,) = read(tmp_path, {"qid": 1, "question": "Hi", "answers": answers})
    assert (example.responses, example.ranking, example.scores) == (("Bad.", "Good."), SECOND, ((0.0,), (3.0,)))


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"problem": "1+1?", "solution": "It is 2.", "answer": "2"}, "It is 2."),
        ({"problem": "1+1?", "generated_solution": "It is 2.", "expected_answer": "2"}, "It is 2."),
    ],
)
def test_problems_with_solutions(row: dict[str, Any], answer: str, tmp_path: Path) -> None:
    (example,) = read(tmp_path, row)
    assert (example.messages[-1].content, example.responses) == ("1+1?", (answer,))


def test_names_in_capitals_are_found_for_the_hint(tmp_path: Path) -> None:
    capitals = {"Language": "py", "My Instruction": "Hi", "Chosen": "Good.", "Rejected": "Bad."}
    with pytest.raises(DataError, match=r"'\{prompt: My Instruction, chosen: Chosen, rejected: Rejected\}'"):
        read(tmp_path, capitals)


@pytest.mark.parametrize("text", ["<|im_start|>user\nHi", "[INST] Hi [/INST]", "Read.\n### Instruction:\nHi"])
def test_markup_in_most_prompts_is_told(text: str, tmp_path: Path) -> None:
    report = Report()
    rows = [{"prompt": f"{text} {n}", "chosen": "Good.", "rejected": "Bad."} for n in range(3)]
    read(tmp_path, *rows, report=report)
    (warning,) = report.warnings
    assert "in 3 of 3 rows the prompt holds" in warning
    report = Report()
    read(tmp_path, rows[0], *[{**r, "prompt": f"Hi {n}"} for n, r in enumerate(rows)], report=report)
    assert report.warnings == []


def test_dialogues_that_end_with_a_question_are_prompts(tmp_path: Path) -> None:
    ask, say = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}
    open_, whole = {"messages": [ask, say, ask], "ground_truth": "2"}, {"messages": [ask, say]}
    found = read(tmp_path, open_, {**open_, "ground_truth": "two"}, whole, keep_columns=["ground_truth"])
    assert [len(e.responses) for e in found] == [0, 0, 1]
    assert [m.content for m in found[0].messages] == ["1+1?", "2", "1+1?"]
    report = Report()
    assert len(read(tmp_path, whole, {"messages": [say, ask, say]}, open_, report=report)) == 2
    assert report.dropped == {"last turn is not the assistant's": 1}
