"""Every option of the verbs that judge responses, in every mode: `evaluate`, `data rank`, `benchmark rewards`, `mt-bench`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.cli.benchmark_mt_bench import mt_bench
from align.cli.benchmark_rewards import rewards
from align.cli.data_rank import rank
from align.cli.evaluate import evaluate
from tests.cli.observing import Observed, Verb, check, options_of
from tests.cli.pooled import POOL
from tests.cli.rayed import RAY, WORKERS
from tests.cli.things import lines

LENGTH = "align.rewards.verifiable:length"
DRAWING = ("--sampling.temperatures", "[1]", "--sampling.generation.max_new_tokens", "4")
MODELS = ("--models", "[THINGS/model]", "--prompts", "THINGS/pairs.jsonl", *DRAWING)
JUDGED = ("--judge", "RewardJudge", "--judge.path", "THINGS/reward")
GRADED = ("--rewards", "[THINGS/reward]")
ONLY_ONE = ["sampling.generation.top_p", "sampling.generation.num_samples", "sampling.generation.seed"]
EVALUATE = Verb(
    evaluate,
    "evaluate",
    {"measured": MODELS, "judged": (*MODELS, *JUDGED), "greedy": (*MODELS, "--sampling.temperatures", "[0]")},
    {
        "models": ("--models", "[THINGS/other]"),
        "prompts": ("--prompts", "THINGS/pairs2.jsonl"),
        "rewards": ("--rewards", "[THINGS/reward]"),
        "reward_tokens": ("--rewards", "[THINGS/reward]", "--reward_tokens.reward", "20"),
        "scorer": ("--scorer", "FunctionRewards", "--scorer.function", LENGTH),
        "keep_columns": (
            *("--prompts", "THINGS/alpaca.json", "--scorer", "FunctionRewards", "--scorer.function", LENGTH),
            *("--keep_columns", "[dataset]"),
        ),
        "out": ("--out", "elsewhere"),
        "sampling.temperatures": ("--sampling.temperatures", "[0.5]"),
        "sampling.generation.max_new_tokens": ("--sampling.generation.max_new_tokens", "3"),
        "sampling.generation.temperature": ("--sampling.generation.temperature", "0.5"),
        "sampling.generation.top_p": ("--sampling.generation.top_p", "0.1"),
        "sampling.generation.num_samples": ("--sampling.generation.num_samples", "2"),
        "sampling.generation.seed": ("--sampling.generation.seed", "9"),
        "sampling.generation.batch_tokens": ("--sampling.generation.batch_tokens", "1"),
        "sampling.template": ("--sampling.template", "plain"),
        "sampling.chat_template_kwargs": ("--sampling.chat_template_kwargs", "{loud: true}"),
        "sampling.dtype": ("--sampling.dtype", "bfloat16"),
        "sampling.check": ("--sampling.check", "false"),
        "sampling.engine": ("--sampling.engine", "continuous"),
        "sampling.limit": ("--sampling.limit", "2"),
        "start": ("--start", "THINGS/other"),
        "matched": ("--start", "THINGS/other", "--matched", "true"),
        "best_of.n": (*GRADED, "--best_of.n", "[1]"),
        "best_of.by": (*GRADED, "--best_of.n", "[1]", "--best_of.by", "THINGS/reward"),
        "judge": ("--judge", "RewardJudge", "--judge.path", "THINGS/reward2"),
        "against": ("--against", "THINGS/other"),
        "human": (*JUDGED, "--human", "THINGS/pairs2.jsonl"),
        **POOL,
        **RAY,
    },
    refused={
        ("measured", "against"): "belongs to --judge",
        ("*", "sampling.generation.temperature"): "drawn at --sampling.temperatures",
        **{("greedy", name): "draws nothing at --sampling.temperatures [0]" for name in ONLY_ONE},
    },
    only={"greedy": ONLY_ONE, "judged": ["judge", "against", "human", "sampling.temperatures", "rewards", "models"]},
)
RANKED = ("--data", "THINGS/pairs.jsonl", "--rewards", "THINGS/two", "--out", "o.txt")
ADD = ("--add.a", "THINGS/a.jsonl", "--add.b", "THINGS/b.jsonl", "--add.c", "THINGS/c.jsonl")
RANK = Verb(
    rank,
    "data rank",
    {"own": RANKED, "filled": (*RANKED, *ADD, "--length", "3")},
    {
        "data": ("--data", "THINGS/pairs2.jsonl"),
        "rewards": ("--rewards", "THINGS/two2"),
        "out": ("--out", "other.txt"),
        "add": ("--add.a", "THINGS/b.jsonl"),
        "plan": ("--plan", "[b,b]"),
        "order": ("--order", "random"),
        **WORKERS,
        "length": ("--length", "4"),
        "attributes": ("--attributes.verbosity", "1"),
        "reward_tokens": ("--reward_tokens", "100"),
        "scorer": ("--scorer", "GoldRewards"),
        "keep_columns": ("--keep_columns", "[prompt]"),
    },
    {("own", "length"): ("--data", "THINGS/lists.jsonl", "--length", "2")},
    {
        ("*", "scorer"): "one of the two",
        ("*", "keep_columns"): "belongs to --scorer",
        **{("own", name): "belongs to --add" for name in ("plan", "order")},
    },
)
REWARDS = Verb(
    rewards,
    "benchmark rewards",
    {"pairs": ("--models", "[THINGS/two]", "--data", "THINGS/bench.jsonl", "--out", "o.json")},
    {
        "models": ("--models", "[THINGS/two,THINGS/reward]"),
        "data": ("--data", "THINGS/bench2.jsonl"),
        "kind": ("--data", "THINGS/lists.jsonl", "--kind", "pairs"),
        "direction.weights": ("--direction.weights.verbosity", "-1"),
        "direction.gates": ("--direction.gates", '[{"attribute": "verbosity", "at_least": -0.135, "penalty": 5}]'),
        "reward_tokens": ("--reward_tokens", "30"),
        "out": ("--out", "other.json"),
    },
    refused={("pairs", "kind"): "expected"},
)
MT = ("--questions", "THINGS/mt.jsonl")
ASKED = ("--answers", "[THINGS/answers.jsonl]", "--responder", "LocalModel", "--responder.model.path", "THINGS/model")
MT_BENCH = Verb(
    mt_bench,
    "benchmark mt-bench",
    {"read": (*MT, "--judgments", "THINGS/judged.jsonl")},
    {
        "questions": ("--questions", "THINGS/mt3.jsonl"),
        "answers": ("--answers", "[THINGS/answers.jsonl]"),
        "responder": ASKED[2:],
        "references": ("--references", "THINGS/answers.jsonl"),
        "judgments": ("--judgments", "THINGS/judged2.jsonl"),
        "repeats": ("--repeats", "1"),
        "fences": ("--fences", "false"),
        "average": ("--average", "questions"),
        "store": ("--store", "s.sqlite"),
        "out": ("--out", "o.json"),
    },
    refused={
        **{
            ("read", name): "belongs to --answers and --responder"
            for name in ("references", "repeats", "fences", "store")
        },
        **{("read", name): "answers and responder belong together" for name in ("answers", "responder")},
    },
)
VERBS = {verb.name: verb for verb in (EVALUATE, RANK, REWARDS, MT_BENCH)}


@pytest.fixture(scope="module", autouse=True)
def files(things: Path) -> None:
    prompts = [json.loads(line)["prompt"] for line in (things / "pairs.jsonl").read_text().splitlines()]
    for name in "abc":
        rows = [{"prompt": p, "completion": f"{name} {i} {n}"} for n, p in enumerate(prompts) for i in range(2)]
        lines(things / f"{name}.jsonl", rows)
    many = [{"prompt": f"Q{n}", "completions": ["x", "yy", "zzz"], "scores": [1, 2, 3]} for n in range(3)]
    lines(things / "lists.jsonl", many)
    for seed, name in enumerate(("bench", "bench2")):
        texts = [(f"Q{n}", "w" * (1 + (3 * n + seed) % 5), "v" * (1 + n % 4)) for n in range(8 + seed)]
        rows = [{"prompt": p, "chosen": a, "rejected": b, "subset": f"s{len(a) % 2}"} for p, a, b in texts]
        lines(things / f"{name}.jsonl", rows)
    asked = [81, 82, 83]
    lines(things / "mt3.jsonl", [{"question_id": n, "category": "stem", "turns": ["Hi", "So?"]} for n in asked])
    answers = [{"question_id": n, "model_id": "m", "choices": [{"index": 0, "turns": ["a", "b"]}]} for n in asked]
    lines(things / "answers.jsonl", answers)
    for base, name in enumerate(("judged", "judged2")):
        rows = [{"question_id": n, "model": "m", "turn": t, "score": base + n % 7 + t} for n in asked for t in (1, 2)]
        rows.append({**rows[0], "score": 9})  # judged twice
        lines(things / f"{name}.jsonl", rows)


@pytest.mark.parametrize("name", VERBS)
def test_every_option_is_tried(name: str) -> None:
    assert options_of(VERBS[name].function) == set(VERBS[name].options)


@pytest.mark.parametrize(
    ("name", "mode", "option"),
    [(v.name, *case) for v in VERBS.values() for case in v.cases() if case[1] not in {**POOL, **RAY}],
)
def test_option(name: str, mode: str, option: str, observed: Observed) -> None:
    check(VERBS[name], mode, option, observed)
