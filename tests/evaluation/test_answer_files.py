"""Answer files have the columns and the order that AlpacaEval's and FastChat's own readers want."""

from __future__ import annotations

import gzip
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from align.cli.answering import Answerer
from align.cli.main import main
from align.errors import ConfigError
from align.evaluation.answer_files import MTBenchQuestion, mt_bench_answers
from align.evaluation.completions import EvaluationPrompt
from align.evaluation.policy import Policy
from align.models.asked import PLAIN, ModelAsking
from align.models.backbone import Backbone
from align.models.prompt_parts import PromptPart
from align.records import Message
from align.sampling.engine import Engine
from align.sampling.generation import Completion, Generation

SHORT = ("--generation.max_new_tokens", "3")


def test_alpaca_eval(model_folder: Path, shared: Path) -> None:
    """The columns of a published outputs file, its instructions in its order."""
    published = shared / "alpaca-eval/model_outputs/alpaca-7b.json.gz"
    with gzip.open(published, "rt") as file:
        theirs = json.load(file)[:5]
    Path("set.json").write_text(json.dumps([{k: r[k] for k in ("instruction", "dataset")} for r in theirs]))
    words = ["generate", "--model.path", str(model_folder), "--answers", "alpaca_eval", "--prompts", "set.json"]
    assert main([*words, "--out", "a/out.json", "--name", "mine", *SHORT]) == 0
    ours = json.loads(Path("a/out.json").read_text())
    assert [set(r) for r in ours] == [set(r) for r in theirs]
    assert [(r["instruction"], r["dataset"], r["generator"]) for r in ours] == [
        (r["instruction"], r["dataset"], "mine") for r in theirs
    ]


def test_the_model_of_a_run_has_the_name_of_the_run(model_folder: Path) -> None:
    """Two runs' files would be of one generator, `model`, which alpaca-eval refuses to compare."""
    Path("dpo").mkdir()
    Path("dpo/model").symlink_to(model_folder)
    Path("set.json").write_text(json.dumps([{"instruction": "Say a", "dataset": "d"}]))
    words = ["generate", "--answers", "alpaca_eval", "--prompts", "set.json", "--model.path", "dpo/model"]
    assert main([*words, "--out", "out.json", *SHORT]) == 0
    assert [row["generator"] for row in json.loads(Path("out.json").read_text())] == ["dpo"]


def test_mt_bench(model_folder: Path, shared: Path) -> None:
    """The fields of FastChat's reference answers; two turns each, the second asked with the first answer."""
    theirs = json.loads((shared / "mt-bench/reference_gpt-4.jsonl").read_text().splitlines()[0])
    lines = (shared / "mt-bench/question.jsonl").read_text().splitlines()[::10]
    Path("question.jsonl").write_text("\n".join(lines))
    words = ["generate", "--model.path", str(model_folder), "--answers", "mt_bench", "--prompts", "question.jsonl"]
    assert main([*words, "--out", "tiny.jsonl", *SHORT]) == 0
    ours = [json.loads(line) for line in Path("tiny.jsonl").read_text().splitlines()]
    assert all(set(r) == set(theirs) and set(r["choices"][0]) == set(theirs["choices"][0]) for r in ours)
    assert [r["question_id"] for r in ours] == [json.loads(line)["question_id"] for line in lines]
    assert all(len(r["choices"][0]["turns"]) == 2 for r in ours)
    assert {r["model_id"] for r in ours} == {"tiny"}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--prompts", "missing.json", "--out", "x"], "cannot be read"),
        (["--prompts", "bad.json", "--out", "x"], "expected rows with 'instruction'"),
        (["--prompts", "bad.json"], "--out"),
        (["--prompts", "bad.json", "--out", "x", "--generation.num_samples", "2"], "num_samples 2"),
    ],
)
def test_bad_input(more: list[str], says: str, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.json").write_text('[{"a": 1}]')
    assert main(["generate", "--model.path", str(model_folder), "--answers", "alpaca_eval", *more]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "row",
    [
        {"turns": ["a"]},
        {"question_id": 1, "turns": "a"},
        {"question_id": 1, "turns": []},
        {"question_id": 1, "turns": [3]},
    ],
)
def test_bad_questions(row: dict, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("q.jsonl").write_text(json.dumps(row))
    words = ["generate", "--model.path", str(model_folder), "--answers", "mt_bench", "--prompts", "q.jsonl"]
    assert main([*words, "--out", "x"]) == 2
    assert "q.jsonl, row 1: expected a question_id" in capsys.readouterr().err


def test_every_turn_is_asked_as_the_policy_is(model_folder: Path) -> None:
    """Both turns of MT-bench stand under the condition, the second after the first answer."""
    asked: list[tuple[Message, ...]] = []

    class Echo(Engine):
        def generate(self, jobs: Any, settings: Generation, round_number: int = 0) -> list[list[Completion]]:
            asked.extend(job.request.messages for job in jobs)
            return [[Completion([1], f" answer {len(asked)} ", "eos")] for _ in jobs]

    policy = Policy.load(Backbone(str(model_folder)))
    part = PromptPart("more", "more of it", lambda dialogue: (Message("system", "more of it"), *dialogue))
    under = ModelAsking((part,))
    answerer = Answerer(lambda _: nullcontext(Echo()), policy.encoder, under, policy._replace(asking=under))
    mt_bench_answers(answerer.texts, [MTBenchQuestion(1, "math", ("One?", "Two?"))], "m", Generation(4), now=0)
    told = Message("system", "more of it")
    assert asked == [
        (told, Message("user", "One?")),
        (told, Message("user", "One?"), Message("assistant", "answer 1"), Message("user", "Two?")),
    ]
    ids = [policy.encoder.prompt_ids((told, Message("user", "x" * left))) for left in (1, 2)]
    (short, cut), (whole, _) = answerer.policy.prompt_ids(
        [EvaluationPrompt((Message("user", "x" * n),)) for n in (600, 2)], 4
    )
    assert cut
    assert whole == ids[1]
    assert len(short) == 508  # the condition is there, the start of the prompt is not
    assert short[: len(ids[0]) // 2] == ids[0][: len(ids[0]) // 2]
    with pytest.raises(ConfigError, match="leaves no room in the context for 'x'"):
        answerer.policy.prompt_ids([EvaluationPrompt((Message("user", "x"),))], 511)
    plain = answerer._replace(asking=PLAIN, policy=policy)
    assert plain.texts([(Message("user", "x" * 600),)], Generation(4)) == ["answer 3"]
