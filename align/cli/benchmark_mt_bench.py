"""`align benchmark mt-bench`: ratings of MT-bench answers, asked of a judge or read from a judgment file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import align.judges.endpoint
import align.judges.local_model
from align.cli.evaluation_tables import judge_notes, parts_table, show, write_json
from align.cli.functions import FunctionVerb
from align.cli.unused import Unused, without
from align.errors import ConfigError
from align.evaluation.answer_files import read_mt_bench_questions
from align.evaluation.benchmark_files import json_rows
from align.evaluation.mt_bench import Average, Judgment, as_judgments, judge_answers, read_answers
from align.evaluation.mt_bench_ratings import judged_again, rating_differences, rating_lines
from align.judges.chat_backend import ChatBackend
from align.judges.judge_prompts import JudgePrompt
from align.judges.language_judge import LanguageJudge
from align.strict_json import json_text

NAMED = (align.judges.endpoint.Endpoint, align.judges.local_model.LocalModel)
"""Classes that `--responder` takes without their path."""

UNUSED = (
    Unused(
        ("references", "repeats", "fences", "store"),
        without("responder"),
        "belongs to --answers and --responder, which ask a judge: name them, or leave it out",
    ),
)


def mt_bench(  # noqa: PLR0913  the signature is the command line
    questions: str,
    *,
    answers: list[str] | None = None,
    responder: ChatBackend | None = None,
    references: str | None = None,
    judgments: str | None = None,
    repeats: int = 2,
    fences: bool = True,
    average: Average = "judgments",
    store: str = "runs/judge.sqlite",
    out: str | None = None,
) -> None:
    """Report the mean rating of MT-bench answers by turn and category, with intervals over questions.

    With `answers` and `responder`, a judge rates every turn (single-answer grading) and JUDGMENTS is written, in the
    format FastChat's `show_result.py` reads. Without, JUDGMENTS is read.

    Args:
        questions: MT-bench's question.jsonl.
        answers: Answer files, as `align generate --answers mt_bench` and FastChat write them; the first model is what
            the others are compared with.
        responder: Who rates: Endpoint or LocalModel.
        references: Answer file with the reference answers of mathematics, reasoning and coding.
        judgments: Judgment file, to write or to read.
        repeats: How often to ask again for a reply that is invalid.
        fences: Put what is quoted between random marks; false asks as published.
        average: Over judgments, as FastChat's show_result.py, or over questions: of one that was judged several times
            the ratings are averaged first.
        store: File that keeps replies and spending.
        out: JSON file to write; null prints the table alone.
    """
    if (answers is None) != (responder is None):
        raise ConfigError("answers and responder belong together; to sum up a file, give --judgments alone")
    asked = read_mt_bench_questions(Path(questions))
    if answers is None or responder is None:
        if judgments is None:
            raise ConfigError("name --answers and --responder to ask for ratings, or --judgments to sum up a file")
        rows, report = list(json_rows(Path(judgments))), {}
    else:
        known = {} if references is None else read_answers(Path(references))[1]
        judge = LanguageJudge(responder, JudgePrompt("mt_bench_single", fences=fences), repeats=repeats, store=store)
        files = [read_answers(Path(path)) for path in answers]
        if len({model for model, _ in files}) < len(files):
            raise ConfigError("answers: two files are of the same model_id")
        rows = [r for m, a in files for r in judge_answers(judge, asked, m, a, known, now=time.time())]
        report = judge.report()
        if judgments is not None:
            _write(Path(judgments), rows)
    found = as_judgments(rows, judgments or "judgments")
    models = {m: [j for j in found if j.model == m] for m in dict.fromkeys(j.model for j in found)}
    _show(models, {q.question_id: q.category for q in asked}, report, average, out)


def _show(
    models: Mapping[str, Sequence[Judgment]],
    categories: Mapping[int, str],
    report: Mapping[str, Any],
    average: Average,
    out: str | None,
) -> None:
    if not models:
        raise ConfigError("judgments: the file holds none")
    for model, part in models.items():
        if invalid := sum(j.score != j.score for j in part):
            print(f"{model}: {invalid} of {len(part)} replies hold no rating and are left out")
        if again := judged_again(part):
            print(f"{model}: {again} turns are judged several times; the mean is over {average}")
    if not any(j.score == j.score for part in models.values() for j in part):
        raise ConfigError(f"no reply holds a rating: {report.get('invalid_replies', '')}")
    first = next(iter(models.values()))
    lines = {model: rating_lines(part, categories, average=average) for model, part in models.items()}
    apart = {m: rating_differences(part, first, categories, average) for m, part in list(models.items())[1:]}
    show(parts_table("MT-bench, mean rating from 1 to 10 (95 % bootstrap over questions)", lines, apart))
    if report:
        print(judge_notes(report))
    content = {
        "average": average,
        "models": {model: [line._asdict() for line in part] for model, part in lines.items()},
        "differences": {model: [line._asdict() for line in part] for model, part in apart.items()},
        "judge": dict(report),
    }
    write_json(out, content)


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json_text(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{path}: {len(rows)} judgments")


VERB = FunctionVerb(mt_bench, unused=UNUSED)
