"""Every option of the benchmarks that ask models: `truthfulqa`, `toxicity`, and `mt-bench` with a judge."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from align.cli.benchmark_alpaca_eval import alpaca_eval
from align.cli.benchmark_mt_bench import mt_bench
from align.cli.benchmark_toxicity import measure
from align.cli.benchmark_truthfulqa import truthfulqa
from align.judges import model_backend
from align.sampling.generation import Sample
from tests.cli.model_options import ASK, MODEL, MODEL_REFUSED
from tests.cli.observing import Observed, Verb, check, options_of
from tests.cli.things import TEMPLATE, lines
from tests.tiny import save_tiny

WRITTEN = ["model.tokenizer", "model.chat_template"]
"""What decides how a chat is written; the tokenizers here differ in their templates."""
SAME = ("plain", "model.tokenizer")
HARNESS = {("*", "model.check"): "lm-eval asks the model in its own way"}
UNTOLD = {("plain", "model.chat_template"): ("--model.path", "THINGS/plain", *MODEL["model.chat_template"])}
"""A model that was trained under something is asked in the chat template."""
TRUTH = ("--model.path", "THINGS/model", "--data", "THINGS/truth.jsonl", "--out", "o.json")
TRUTH_JUDGE = ("--judge", "LocalModel", "--judge.model.path", "THINGS/model", "--new_tokens", "4")
JUDGED = ("truth_from", "information_from", "prompt", "new_tokens")
TRUTHFUL = Verb(
    truthfulqa,
    "benchmark truthfulqa",
    {"plain": TRUTH, "chat": (*TRUTH, "--chat", "true"), "judged": (*TRUTH, *TRUTH_JUDGE)},
    {
        **MODEL,
        **ASK,
        "model.tokenizer": ("--model.tokenizer", "THINGS/spoken"),
        "data": ("--data", "THINGS/truth2.jsonl"),
        "chat": ("--chat", "true"),
        "limit": ("--limit", "1"),
        "batch_size": ("--batch_size", "2"),
        "judge": ("--judge", "LocalModel", "--judge.model.path", "THINGS/model2"),
        "truth": ("--truth", "RewardFolder", "--truth.path", "THINGS/reward"),
        "information": ("--information", "RewardFolder", "--information.path", "THINGS/reward"),
        "truth_from": ("--truth_from", "0"),
        "information_from": ("--information_from", "1.5"),
        "prompt": ("--prompt", "question"),
        "new_tokens": ("--new_tokens", "2"),
        "store": ("--store", "s.sqlite"),
        "out": ("--out", "p.json"),
    },
    otherwise=UNTOLD,
    refused={
        **MODEL_REFUSED,
        **{("plain", option): reason for (_, option), reason in HARNESS.items()},
        ("plain", "model.chat_template"): "belongs to --chat true",
        **{("plain", option): "give both" for option in ("truth", "information")},
        **{("judged", option): "asks what --truth and --information say" for option in ("truth", "information")},
        **{("plain", option): "belongs to answers that are judged" for option in (*JUDGED, "store")},
    },
    only={"chat": WRITTEN, "judged": ["judge", "truth", "information", *JUDGED, "store", "chat", "limit", "data"]},
)
CLASSIFIER = ("--toxicity", "TextClassifier", "--toxicity.path", "THINGS/two", "--toxicity.label", "helpfulness")
FEW = ("--drawing.samples", "2", "--drawing.new_tokens", "3", "--out", "o.json")
TOXIC = ("--model.path", "THINGS/model", "--data", "THINGS/toxic.jsonl", *CLASSIFIER, *FEW)
TOXICITY = Verb(
    measure,
    "benchmark toxicity",
    {"plain": TOXIC, "chat": (*TOXIC, "--chat", "true")},
    {
        **MODEL,
        **ASK,
        "model.tokenizer": ("--model.tokenizer", "THINGS/spoken"),
        "data": ("--data", "THINGS/toxic2.jsonl"),
        "toxicity": ("--toxicity.label", "verbosity"),
        "drawing.samples": ("--drawing.samples", "3"),
        "drawing.new_tokens": ("--drawing.new_tokens", "4"),
        "drawing.top_p": ("--drawing.top_p", "0.01"),
        "drawing.instruction": ("--drawing.instruction", "respectful"),
        "drawing.seed": ("--drawing.seed", "7"),
        "chat": ("--chat", "true"),
        "limit": ("--limit", "1"),
        "batch_size": ("--batch_size", "1"),
        "out": ("--out", "p.json"),
    },
    otherwise=UNTOLD,
    refused={**MODEL_REFUSED, **HARNESS, ("plain", "model.chat_template"): "belongs to --chat true"},
    only={"chat": WRITTEN},
)
JUDGE = ("--responder", "LocalModel", "--responder.model.path", "THINGS/model", "--responder.max_tokens", "4")
ASKED = (
    "--questions",
    "THINGS/mt.jsonl",
    "--answers",
    "[THINGS/answered.jsonl]",
    *JUDGE,
    "--out",
    "o.json",
    "--references",
    "THINGS/answered.jsonl",
)
MT_BENCH = Verb(
    mt_bench,
    "benchmark mt-bench",
    {"asked": ASKED},
    {
        "questions": ("--questions", "THINGS/mt4.jsonl"),
        "answers": ("--answers", "[THINGS/answered2.jsonl]"),
        "responder": ("--responder.max_tokens", "3"),
        "references": ("--references", "THINGS/answered2.jsonl"),
        "judgments": ("--judgments", "THINGS/written.jsonl"),
        "repeats": ("--repeats", "1"),
        "fences": ("--fences", "false"),
        "average": ("--average", "questions"),
        "store": ("--store", "s.sqlite"),
        "out": ("--out", "p.json"),
    },
)
COMPARED = ("--answers", "[THINGS/own.json]", "--baseline", "THINGS/base.json", "--out", "o.json")
LONG_JUDGE = ("--responder", "LocalModel", "--responder.model.path", "THINGS/judge", "--responder.max_tokens", "4")
ALPACA = Verb(
    alpaca_eval,
    "benchmark alpaca-eval",
    {
        "asked": (*COMPARED, *LONG_JUDGE),
        "judged": (*COMPARED, "--judge", "RewardJudge", "--judge.path", "THINGS/reward"),
        "read": ("--annotations", "THINGS/annotated.json", "--out", "o.json"),
    },
    {
        "annotations": ("--annotations", "a.json"),
        "answers": ("--answers", "[THINGS/own2.json]"),
        "baseline": ("--baseline", "THINGS/base2.json"),
        "responder": ("--responder.max_tokens", "3"),
        "judge": ("--judge.attribute", "0", "--judge.path", "THINGS/reward2"),
        "difficulty": ("--difficulty", "THINGS/gamed.csv"),
        "leaderboard": ("--leaderboard", "row.csv"),
        "repeats": ("--repeats", "1"),
        "fences": ("--fences", "false"),
        "store": ("--store", "s.sqlite"),
        "out": ("--out", "p.json"),
    },
    otherwise={
        ("read", "annotations"): ("--annotations", "THINGS/annotated2.json"),
        ("asked", "judge"): ("--judge", "RewardJudge", "--judge.path", "THINGS/reward"),
        ("read", "judge"): ("--judge", "RewardJudge", "--judge.path", "THINGS/reward"),
        ("judged", "responder"): LONG_JUDGE,
        ("read", "responder"): LONG_JUDGE,
        ("read", "answers"): ("--answers", "[THINGS/own2.json]"),
    },
    refused={
        ("asked", "judge"): "name either --responder",
        ("judged", "responder"): "name either --responder",
        ("read", "answers"): "name either --responder",
        **{("judged", option): "belongs to --responder" for option in ("repeats", "fences", "store")},
        **{
            ("read", option): "belongs to --answers"
            for option in ("baseline", "responder", "judge", "repeats", "fences", "store")
        },
    },
    only={"asked": ["annotations", "answers", "baseline", "responder", "judge", "repeats", "fences", "store"]},
)
VERBS = {verb.name: verb for verb in (TRUTHFUL, TOXICITY, MT_BENCH, ALPACA)}


@pytest.fixture(scope="module", autouse=True)
def files(things: Path) -> Iterator[None]:
    """Questions and answers; the judge's replies hold a rating, all but some, which are asked for again."""
    pytest.importorskip("lm_eval")
    for number, name in enumerate(("truth", "truth2")):
        targets = {"choices": ["Yes.", "Nay."][:: 1 - 2 * number], "labels": [1, 0]}
        rows = [{"question": f"Q{n}?", "mc1_targets": targets, "mc2_targets": targets} for n in range(3)]
        lines(things / f"{name}.jsonl", rows)
        lines(things / f"toxic{name[5:]}.jsonl", [{"prompt": {"text": f"{name} {n}", "toxicity": n}} for n in range(2)])
        turns = [f"first {name}", f"second {name}"]
        choices = [{"index": 0, "turns": turns}]
        rows = [{"question_id": n, "model_id": "m", "choices": choices} for n in (81, 82, 83)]
        lines(things / f"answered{name[5:]}.jsonl", rows)
    alpaca_files(things)
    asked = [{"question_id": n, "category": "math", "turns": ["Why?", "So?"]} for n in (81, 82, 83)]
    lines(things / "mt4.jsonl", asked)
    shutil.copytree(things / "model", things / "spoken")
    shutil.copy(things / "template.jinja", things / "spoken" / "chat_template.jinja")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(model_backend, "sample", _rated)
    yield
    monkeypatch.undo()


def alpaca_files(things: Path) -> None:
    """Answers of two models and of two baselines, annotations, a table of difficulties, and a judge of long prompts."""
    save_tiny(things / "judge", template=TEMPLATE, max_position_embeddings=8192, initializer_range=0.6)
    for name in ("own", "own2", "base", "base2"):
        rows = [{"instruction": f"Say {n}", "output": f"{name} {n}" * (n + 1), "generator": name} for n in range(4)]
        (things / f"{name}.json").write_text(json.dumps(rows))
    for name, first in (("annotated", 1.0), ("annotated2", 2.0)):
        known = {"generator_1": "base", "generator_2": "own", "annotator": "a"}
        rows = [
            {"instruction": f"Say {n}", "output_1": "b" * (n + 1), "output_2": "m", **known, "preference": score}
            for n, score in enumerate((first, 1.3, 2.0, 1.0))
        ]
        (things / f"{name}.json").write_text(json.dumps(rows))
    lines = ["index,instruction_difficulty,std_delta_len,preference,not_gamed_baseline"]
    lines += [f"{n % 4},{n % 3 - 1},{(n % 5) / 2 - 1},{n % 2},{n > 3}" for n in range(8)]
    (things / "gamed.csv").write_text("\n".join(lines))


def _rated(model: Any, tokenizer: Any, prompts: list[list[int]], *rest: Any, **named: Any) -> list[Sample]:
    found = SAMPLE(model, tokenizer, prompts, *rest, **named)
    texts = [_reply(tokenizer.decode(prompts[sample.prompt])) for sample in found]
    return [s._replace(text=text, finish="eos") for s, text in zip(found, texts, strict=True)]


def _reply(prompt: str) -> str:
    """Return a rating, or one of AlpacaEval's identifiers; to some prompts neither, however often they are asked."""
    mark = zlib.crc32(re.sub(r"data-\w{32}", "", prompt).encode())
    if "model identifiers" in prompt:
        return "none" if "own 0" in prompt else "mM"[mark % 2]
    return f"[[{mark % 11}]]" if mark % 11 else "none"


SAMPLE = model_backend.sample


@pytest.mark.parametrize("name", VERBS)
def test_every_option_is_tried(name: str) -> None:
    assert options_of(VERBS[name].function) == set(VERBS[name].options)


@pytest.mark.parametrize(
    ("name", "mode", "option"), [(v.name, *case) for v in VERBS.values() for case in v.cases() if case != SAME]
)
def test_option(name: str, mode: str, option: str, observed: Observed) -> None:
    check(VERBS[name], mode, option, observed)


@pytest.mark.parametrize("option", ["lora", "gradient_checkpointing", "dropout", "layout", "logit_bytes", "compile"])
def test_a_judge_is_not_trained(option: str, observed: Observed) -> None:
    flag, value = MODEL[f"model.{option}"]
    tried = observed(["benchmark", "mt-bench", *ASKED, flag.replace("--", "--responder."), value])
    assert (tried.code, f"responder.model.{option} belongs to training" in tried.said) == (2, True)
