"""`align benchmark alpaca-eval`: win rates against a baseline, from annotations or from answers and a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from align.cli.evaluation_tables import judge_notes, show, write_json
from align.cli.functions import FunctionVerb
from align.cli.unused import Unused, given, without
from align.errors import ConfigError
from align.evaluation.alpaca_eval import (
    Annotated,
    annotate,
    as_annotated,
    leaderboard_csv,
    leaderboard_row,
    read_annotations,
)
from align.evaluation.comparison import length_controlled_win_rate
from align.evaluation.instruction_places import rate_of, read_order
from align.evaluation.length_control import read_gamed
from align.evaluation.model_answers import read_model_answers, refuse_other_prompts
from align.judges.chat_backend import ChatBackend
from align.judges.endpoint import Endpoint
from align.judges.judge_prompts import JudgePrompt
from align.judges.language_judge import LanguageJudge
from align.judges.local_model import LocalModel
from align.judges.preference import GoldJudge, Judge, RewardJudge
from align.strict_json import json_text

NAMED = (Endpoint, LanguageJudge, LocalModel, GoldJudge, RewardJudge)
"""Classes that `--responder` and `--judge` take without their path."""
UNUSED = (
    Unused(
        ("responder", "judge", "repeats", "fences", "store"),
        without("answers"),
        "belongs to --answers, which a judge compares with the baseline: name them, or leave it out",
    ),
    Unused(
        ("baseline",),
        lambda settings: settings["answers"] is None and settings["difficulty"] is None,
        "belongs to --answers, or places annotations for --difficulty: name one of them, or leave it out",
    ),
    Unused(("repeats", "fences", "store"), given("judge"), "belongs to --responder, a judge has its own: leave it out"),
)


def alpaca_eval(  # noqa: PLR0913  the signature is the command line
    annotations: str | None = None,
    *,
    answers: list[str] | None = None,
    baseline: str | None = None,
    responder: ChatBackend | None = None,
    judge: Judge | None = None,
    difficulty: str | None = None,
    leaderboard: str | None = None,
    repeats: int = 2,
    fences: bool = True,
    store: str = "runs/judge.sqlite",
    out: str | None = None,
) -> None:
    """Report win rate, standard error, wins, losses and draws against a baseline, as AlpacaEval's leaderboards do.

    With `answers` and `baseline` a judge compares them and ANNOTATIONS is written, in the columns of AlpacaEval's
    annotations.json. Without, ANNOTATIONS is read. Ours: a judge reads every pair in both orders and the mean is kept
    (AlpacaEval asks one order drawn at random), and quotes texts between random marks (`--fences false` asks as
    published). A reply without a verdict is null and left out, as there.

    Args:
        annotations: Annotation file, JSON or JSONL, of one model or several; to write or to read.
        answers: Answer files with instruction and output, as `align generate --answers alpaca_eval` writes them.
        baseline: Answer file all are compared with, such as AlpacaEval 2's gpt4_1106_preview. Beside ANNOTATIONS that
            lack instructions or have another order, a file with all of them in their order, by which they are placed.
        responder: Who decides, by AlpacaEval 2's prompt (weighted_alpaca_eval_gpt4_turbo): Endpoint or LocalModel. A
            server is asked for log-probabilities, which weigh the verdict where it gives them.
        judge: Another judge instead, with a prompt of its own: LanguageJudge, RewardJudge or GoldJudge.
        difficulty: AlpacaEval's df_gamed.csv, for the length-controlled win rate.
        leaderboard: File to write rows in the columns of AlpacaEval's leaderboard.csv to.
        repeats: How often to ask again for a reply that is invalid.
        fences: Put what is quoted between random marks; false asks as published.
        store: File that keeps replies and spending.
        out: JSON file to write; null prints the table alone.
    """
    gamed = None if difficulty is None else read_gamed(Path(difficulty))
    order = None if baseline is None or gamed is None else read_order(Path(baseline), gamed)
    report: dict[str, Any] = {}
    if answers is None:
        if annotations is None:
            raise ConfigError("name --annotations to sum up a file, or --answers, --baseline and --responder to ask")
        found = read_annotations(Path(annotations))
    else:
        asked = _judge(responder, judge, JudgePrompt("alpaca_eval_2", fences=fences), repeats, store)
        if baseline is None:
            raise ConfigError("answers: name the file they are compared with in --baseline")
        rows, report = _annotate(asked, answers, baseline)
        if annotations is not None:
            _write(annotations, json_text(rows, indent=1))
        found = as_annotated(rows, annotations or "annotations")
    controlled = [None if gamed is None else rate_of(one, gamed, order) for one in found]
    if gamed is not None and order is None:
        print("length-controlled: annotations are taken in their order as the evaluation set's, --baseline says which")
    _report(found, controlled, [_same_length(one) for one in found], report=report, board=leaderboard, out=out)


def _judge(responder: ChatBackend | None, judge: Judge | None, prompt: JudgePrompt, repeats: int, store: str) -> Judge:
    if (responder is None) == (judge is None):
        raise ConfigError("answers: name either --responder, for AlpacaEval 2's prompt, or --judge")
    if responder is not None:
        if isinstance(responder, Endpoint):
            responder = replace(responder, extra={"logprobs": True, "top_logprobs": 5, **responder.extra})
        judge = LanguageJudge(responder, prompt, repeats=repeats, canaries=False, store=store)
    assert judge is not None
    judge.ready()
    return judge


def _annotate(judge: Judge, answers: Sequence[str], baseline: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    known = read_model_answers(Path(baseline))
    files = {path: read_model_answers(Path(path)) for path in answers}
    for path, file in files.items():
        refuse_other_prompts(file, path, known, baseline)
    if len({file.name for file in files.values()}) < len(files):
        raise ConfigError("answers: two files are of the same generator")
    rows = [row for file in files.values() for row in annotate(judge, known, file)]
    return rows, judge.report()


def _same_length(found: Annotated) -> float:
    scores = np.array(found.scores)
    apart = np.array([len(row["output_2"]) - len(row["output_1"]) for row in found.rows], dtype=np.float64)
    there = ~np.isnan(scores)
    return 100 * length_controlled_win_rate(scores[there], apart[there])


def _report(
    found: Sequence[Annotated],
    controlled: Sequence[tuple[float, float] | None],
    same: Sequence[float],
    *,
    report: dict[str, Any],
    board: str | None,
    out: str | None,
) -> None:
    rows = {one.model: leaderboard_row(one, rate) for one, rate in zip(found, controlled, strict=True)}
    show(_table(rows, same))
    for one in found:
        if one.nulls:
            print(f"{one.model}: {one.nulls} of {len(one.rows)} annotations hold no preference (null) and are left out")
        if one.zeros:
            print(f"{one.model}: {one.zeros} of {len(one.rows)} annotations are 0, an old code for a tie")
    if controlled[0] is None:
        print("length-controlled: not computed, it needs AlpacaEval's table of difficulties: --difficulty df_gamed.csv")
    if report:
        print(judge_notes(report))
    if board is not None:
        _write(board, leaderboard_csv(rows))
    extra = {
        one.model: {"nulls": one.nulls, "zeros": one.zeros, "same_length_own_model": rate}
        for one, rate in zip(found, same, strict=True)
    }
    models = {model: {**row, **extra[model]} for model, row in rows.items()}
    write_json(out, {"models": models, "judge": report})


def _table(rows: dict[str, dict[str, Any]], same: Sequence[float]) -> Table:
    table = Table(title="AlpacaEval, % against the baseline", title_justify="left")
    heads = ("win rate", "SE", "wins", "losses", "draws", "n", "length", "length-controlled", "same length (own model)")
    for head in ("model", *heads):
        table.add_column(head, justify="left" if head == "model" else "right")
    names = ("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "avg_length")
    for (model, row), rate in zip(rows.items(), same, strict=True):
        controlled = row["length_controlled_winrate"]
        shown = "-" if controlled is None else f"{controlled:.4f} ({row['lc_standard_error']:.4f})"
        cells = [model, *(_cell(row[name]) for name in names), shown, f"{rate:.1f}"]
        table.add_row(*map(Text, cells))
    return table


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text + "\n" * (not text.endswith("\n")), encoding="utf-8")
    print(f"written to {path}")


VERB = FunctionVerb(alpaca_eval, unused=UNUSED)
