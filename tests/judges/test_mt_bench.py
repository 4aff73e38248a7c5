"""MT-bench's single-answer grading: the published prompts, judgment files, ratings by turn and category."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from align.cli.main import main
from align.evaluation.mt_bench import as_judgments
from align.evaluation.mt_bench_ratings import rating_differences, rating_lines
from align.judges.mt_bench_prompts import rating_prompt
from align.records import Message
from tests.judges.conftest import KEY, Server

QUESTIONS = [
    {"question_id": 1, "category": "writing", "turns": ["Write.", "Again."]},
    {"question_id": 2, "category": "math", "turns": ["Add.", "CASE=over_ten and add?"]},
]
ANSWERS = {1: ["four", "seventh"], 2: ["2", "3"]}
REFERENCES = {2: ["ref one", "ref two"]}


def write(name: str, answers: dict[int, list[str]], model: str) -> str:
    rows = [{"question_id": n, "model_id": model, "choices": [{"index": 0, "turns": t}]} for n, t in answers.items()]
    Path(name).write_text("\n".join(map(json.dumps, rows)))
    return name


def words(server: Server, *answers: str) -> list[str]:
    Path("question.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    found = ["benchmark", "mt-bench", "--questions", "question.jsonl", "--answers", f"[{','.join(answers)}]"]
    found += ["--responder", "Endpoint", "--responder.base_url", server.url, "--responder.model", "judge-1"]
    return [*found, "--responder.api_key_env", "JUDGE_KEY", "--store", "store.sqlite", "--repeats", "0"]


@pytest.mark.parametrize(
    ("name", "turns", "known"),
    [
        ("single-v1", 1, 0),
        ("single-math-v1", 1, 1),
        ("single-v1-multi-turn", 2, 0),
        ("single-math-v1-multi-turn", 2, 2),
    ],
)
def test_prompts_are_the_published_ones(shared: Path, name: str, turns: int, known: int) -> None:
    rows = map(json.loads, (shared / "mt-bench/judge_prompts.jsonl").read_text().splitlines())
    row = next(r for r in rows if r["name"] == name)
    asked, answers, references = ["q {one}", "q2"][:turns], ["a1", "a2"][:turns], ["r1", "r2"][:known]
    found = rating_prompt(asked, answers, references, settings="s", fences=False)
    assert found.name == name
    values = {"question": asked[0], "answer": answers[0]}
    for key, texts in {"question": asked, "answer": answers, "ref_answer": references}.items():
        values |= {f"{key}_{n}": text for n, text in enumerate(texts, 1)}
    assert found.question.messages[0] == Message("system", row["system_prompt"].strip())
    assert found.question.messages[1].content == row["prompt_template"].format(**values)


def test_ratings_from_a_server(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Four turns asked once each, with references where there are any; a reply without a rating is -1."""
    command = [*words(server, write("a.jsonl", ANSWERS, "mine")), "--references", write("r.jsonl", REFERENCES, "gpt")]
    assert main([*command, "--judgments", "j.jsonl", "--out", "o.json"]) == 0
    sent = [r["body"]["messages"][-1]["content"] for r in server.requests()]
    assert len(sent) == 4
    assert sum("ref one" in text for text in sent) == 2
    assert sum("ref two" in text for text in sent) == 1
    rows = [json.loads(line) for line in Path("j.jsonl").read_text().splitlines()]
    assert [(r["question_id"], r["turn"], r["judge"][1]) for r in rows] == [
        (1, 1, "single-v1"),
        (1, 2, "single-v1-multi-turn"),
        (2, 1, "single-math-v1"),
        (2, 2, "single-math-v1-multi-turn"),
    ]
    # the server rates the second text it is shown by its length: "four" twice, then the reference "ref one"
    assert [r["score"] for r in rows] == [4, 4, 7, -1]
    assert rows[0]["judgment"] == "Fine. Rating: [[4]]"
    lines = {line["part"]: line for line in json.loads(Path("o.json").read_text())["models"]["mine"]}
    assert lines["all turns"]["value"][0] == 5
    assert (lines["turn 2"]["value"][0], lines["turn 2"]["items"], lines["math"]["items"]) == (4, 1, 1)
    shown = capsys.readouterr().out
    assert "1 of 4 replies hold no rating" in shown
    assert "4 questions asked, 0 replies reused; in the store so far 4 requests, 428 tokens" in shown
    assert main([*command, "--judgments", "again.jsonl"]) == 0
    assert len(server.requests()) == 4
    assert not any(KEY.encode() in path.read_bytes() for path in Path().rglob("*") if path.is_file())
    read = ["benchmark", "mt-bench", "--questions", "question.jsonl", "--judgments", "j.jsonl", "--out", "p.json"]
    assert main(read) == 0
    results = [json.loads(Path(name).read_text())["models"] for name in ("o.json", "p.json")]
    assert results[0] == results[1]


def test_two_models_are_compared_on_the_same_questions(server: Server) -> None:
    other = {1: ["longer answer", "x"], 2: ["2", "3"]}
    files = write("a.jsonl", ANSWERS, "mine"), write("b.jsonl", other, "other")
    command = [*words(server, *files), "--references", write("r.jsonl", REFERENCES, "gpt"), "--out", "o.json"]
    assert main(command) == 0
    apart = {x["part"]: x["value"][0] for x in json.loads(Path("o.json").read_text())["differences"]["other"]}
    assert apart["turn 1"] == 3  # 10 instead of 4 on one of two questions
    assert apart["math"] == 0


def test_published_judgments(shared: Path) -> None:
    """GPT-4's stored scores of two models: means by turn and category, the intervals around them."""
    with gzip.open(shared / "mt-bench/gpt-4_single_judgments.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    questions = map(json.loads, (shared / "mt-bench/question.jsonl").read_text().splitlines())
    categories = {q["question_id"]: q["category"] for q in questions}
    found = {m: [j for j in as_judgments(rows, "x") if j.model == m] for m in ("gpt-3", "mamba2-hybrid-8b-3t-128k")}
    for model, part in found.items():
        lines = {line.part: line for line in rating_lines(part, categories)}
        for name, inside in (
            ("turn 1", lambda r: r["turn"] == 1),
            ("math", lambda r: categories[r["question_id"]] == "math"),
        ):
            scores = [r["score"] for r in rows if r["model"] == model and inside(r)]
            assert lines[name].value.value == pytest.approx(fmean(scores))
            assert lines[name].items == len(scores)
    apart = {line.part: line.value for line in rating_differences(*found.values(), categories)}
    assert apart["turn 1"].value == pytest.approx(3.625 - 4.35625)
    assert apart["turn 1"].excludes_zero
    assert not apart["turn 2"].excludes_zero


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "question 2 (math): references have 0 of 2 answers"),
        (["--references", "none.jsonl"], "cannot be read"),
        (["--answers", "[short.jsonl]"], "model mine have 1 of 2 answers"),
        (["--answers", "[bad.jsonl]"], "row 1: expected question_id, model_id"),
        (["--answers", "[a.jsonl,a.jsonl]", "--references", "r.jsonl"], "same model_id"),
        (["--responder.api_key_env", "NO_SUCH_KEY", "--references", "r.jsonl"], "NO_SUCH_KEY is not set"),
    ],
)
def test_bad_input(more: list[str], says: str, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    write("short.jsonl", {**ANSWERS, 1: ["one"]}, "mine")
    write("r.jsonl", REFERENCES, "gpt")
    Path("bad.jsonl").write_text('{"question_id": 1, "choices": []}')
    assert main([*words(server, write("a.jsonl", ANSWERS, "mine")), *more]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("align benchmark mt-bench:")
    assert says in line
    assert server.requests() == []


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"question_id": 1, "model": "m", "turn": 1, "score": 11}, "score 11, expected a turn from 1"),
        ({"question_id": 1, "model": "m", "turn": 0, "score": 5}, "turn 0 and score 5"),
        ({"question_id": 1, "model": "m", "turn": 1}, "expected model, question_id, turn and score"),
        ({"question_id": 1, "model": "m", "turn": 1, "score": -1}, "no reply holds a rating"),
    ],
)
def test_bad_judgments(row: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("question.jsonl").write_text(json.dumps(QUESTIONS[0]))
    Path("j.jsonl").write_text(json.dumps(row))
    assert main(["benchmark", "mt-bench", "--questions", "question.jsonl", "--judgments", "j.jsonl"]) == 2
    assert says in capsys.readouterr().err


def test_questions_judged_twice_count_as_fastchat_counts_them() -> None:
    """FastChat's show_result.py takes the mean over rows: of 2, 8 and 8, 6; by question the mean of 5 and 8, 6.5."""
    rows = [{"question_id": q, "model": "m", "turn": 1, "score": s} for q, s in ((1, 2), (1, 8), (2, 8))]
    Path("question.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    Path("j.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["benchmark", "mt-bench", "--questions", "question.jsonl", "--judgments", "j.jsonl", "--out", "o.json"]
    for more, expected, count in (([], 6, 3), (["--average", "questions"], 6.5, 2)):
        assert main([*command, *more]) == 0
        lines = {line["part"]: line for line in json.loads(Path("o.json").read_text())["models"]["m"]}
        assert (lines["turn 1"]["value"][0], lines["turn 1"]["items"]) == (expected, count)
        assert lines["writing"]["value"][0] == 5


def test_differences_are_of_what_the_table_shows() -> None:
    rows = [
        {"question_id": q, "model": m, "turn": 1, "score": s} for q, m, s in ((1, "a", 2), (1, "a", 8), (2, "a", 8))
    ]
    rows += [{"question_id": q, "model": "b", "turn": 1, "score": s} for q, s in ((1, 4), (2, 4))]
    first, second = ([j for j in as_judgments(rows, "x") if j.model == m] for m in "ab")
    assert rating_differences(first, second, {})[0].value.value == 2
    assert rating_differences(first, second, {}, "questions")[0].value.value == 2.5
