"""Reward functions: what they are given, and every way in which one can fail."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from align.errors import ConfigError, RewardError
from align.records import Example, Message
from align.rewards.function_rewards import FunctionRewards

SOURCE = """
import asyncio, os, signal, sys, time
import numpy

def accuracy(completions, answer, **kwargs):
    return [float(c == a) for c, a in zip(completions, answer)]

def seen(prompts, completions, messages, **columns):
    assert columns == {"test": columns["test"], "factor": 2}, columns
    return [2 * len(p) + len(m) + (0 if t is None else t["n"][0]) for p, m, t in zip(prompts, messages, columns["test"])]

def as_trl(prompts, completions, **kwargs):
    return [len(c[0]["content"]) + 10 * len(p) for p, c in zip(prompts, completions)]

def short(completion, prompt, answer="none"):
    print("printed where it does no harm")
    assert sys.stdin.read() == ""
    return numpy.float32(len(completion)) + len(prompt)

async def later(completions):
    await asyncio.sleep(0)
    return numpy.array([float(len(c)) for c in completions])

def bad(completions):
    if any("raise" in c for c in completions):
        {}["no such key"]
    if any("hang" in c for c in completions):
        time.sleep(60)
    if any("exit" in c for c in completions):
        os._exit(3)
    if any("leave" in c for c in completions):
        sys.exit("by itself")
    if any("crash" in c for c in completions):
        os.kill(os.getpid(), signal.SIGSEGV)
    if any("text" in c for c in completions):
        return ["good" for c in completions]
    if any("few" in c for c in completions):
        return [1.0] * (len(completions) - 1)
    return [{"nan": float("nan"), "none": None, "inf": float("inf")}.get(c, float(len(c))) for c in completions]

def wrong_alone(completions):
    if len(completions) > 2:
        raise ValueError("too many at once")
    return [1] * len(completions)

def nothing_fits(text):
    return 0

def unnamed(completions, /):
    return [0] * len(completions)

def splits(completions):
    os.fork()
    return [len(c) for c in completions]
"""
ASK = (Message("user", "Which?"),)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_rewards.py"
    path.write_text(SOURCE)
    return path


def row(number: int = 0, **columns: Any) -> Example:
    return Example(f"row {number}", ASK, kept_columns=json.dumps(columns) if columns else "")


def test_columns_reach_the_function_row_by_row(file: Path) -> None:
    scorer = FunctionRewards(f"{file}:accuracy", batch_size=2)
    examples = [row(n, answer=a) for n, a in enumerate(["yes", "no", "yes"])]
    assert scorer.score_examples(examples, ["yes", "yes", "yes"]).tolist() == [[1], [0], [1]]
    assert scorer.attributes == ("accuracy",)
    told = scorer.report()
    assert (told["function"], told["asked"]) == (f"{file}:accuracy", 3)
    assert told.keys() == {"function", "source", "asked"}
    assert scorer.score_examples([], []).shape == (0, 1)


def test_prompts_turns_other_columns_and_arguments(file: Path) -> None:
    """2 x len('Which?') + 1 turn + 4, and without the column + 0; two system and user turns make 2."""
    scorer = FunctionRewards(f"{file}:seen", arguments={"factor": 2}, name="mine")
    turns = (Message("system", "S"), *ASK)
    examples = [row(0, test={"n": [4]}), row(1), Example("row 2", turns, kept_columns='{"test": null}')]
    assert scorer.score_examples(examples, ["a", "b", "c"])[:, 0].tolist() == [17, 13, 14]
    assert scorer.attributes == ("mine",)


def test_conversations_as_trl_gives_them(file: Path) -> None:
    """Three letters, and ten for each turn of the prompt."""
    assert FunctionRewards(f"{file}:as_trl", conversational=True).score([ASK], ["abc"]).tolist() == [[13]]


def test_one_text_at_a_time_and_functions_that_wait(file: Path) -> None:
    assert FunctionRewards(f"{file}:short").score([ASK] * 2, ["abc", "d"])[:, 0].tolist() == [9, 7]
    assert FunctionRewards(f"{file}:later").score([ASK] * 2, ["abc", "d"])[:, 0].tolist() == [3, 1]


FAULTS = {
    "raise": r"raised KeyError: 'no such key' \(my_rewards.py, line 26\)",
    "hang": "did not return within 0.5 s",
    "exit": r"ended its process \(exit code 3\)",
    "leave": "raised SystemExit: by itself",
    "crash": r"ended its process \(signal SIGSEGV\)",
    "text": "raised TypeError: returned str 'good', expected numbers or None",
    "few": "returned 0 values for 1 responses",
    "nan": "returned nan",
    "inf": "returned inf",
    "none": "returned None",
}


def test_one_process_answers_for_a_function_that_forks(file: Path) -> None:
    """Both returned: the second answer was taken for that of the next call."""
    scorer = FunctionRewards(f"{file}:splits")
    assert [scorer.score([ASK], [text]).item() for text in ("a", "bb", "ccc")] == [1, 2, 3]


@pytest.mark.bad_input
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_sample_or_counted(file: Path, fault: str) -> None:
    examples, texts = [row(n) for n in range(4)], ["a", "bb", fault, "ccc"]
    with pytest.raises(RewardError, match=rf"my_rewards.py:bad {FAULTS[fault]}.* for row 2, the response '{fault}'"):
        FunctionRewards(f"{file}:bad", time_limit=0.5).score_examples(examples, texts)
    dropping = FunctionRewards(f"{file}:bad", time_limit=0.5, on_error="drop")
    with pytest.warns(UserWarning, match=rf"{FAULTS[fault]}.* for row 2"):
        found = dropping.score_examples(examples, texts)[:, 0].tolist()
    assert found[:2] + found[3:] == [1, 2, 3]
    assert math.isnan(found[2])
    told: Any = dropping.report()
    assert sum(told["no score"].values()) == 1
    assert "row 2" in told["first"]


@pytest.mark.bad_input
def test_a_function_that_fails_for_everything_ends_a_run_that_drops(file: Path) -> None:
    """One prompt with all its samples is not everything, nor is a function that returns None."""
    for source, name, fault in (
        (SOURCE, "bad", "raise"),
        ("import time\n\ndef f(completion):\n    time.sleep(60)", "f", ""),
    ):
        file.write_text(source)
        scorer = FunctionRewards(f"{file}:{name}", on_error="drop", time_limit=0.1 if name == "f" else 60)
        with (
            pytest.warns(UserWarning, match=r"raised|return"),
            pytest.raises(RewardError, match=r"each of the first 8"),
        ):
            scorer.score([ASK] * 20, [fault] * 20)
    file.write_text(SOURCE)
    scorer = FunctionRewards(f"{file}:bad", on_error="drop")
    with pytest.warns(UserWarning, match=r"raised"):
        found = scorer.score_examples([row(1)] * 9 + [row(2)], ["raise"] * 9 + ["good"])[:, 0].tolist()
    assert [math.isnan(value) for value in found] == [True] * 9 + [False]
    assert scorer.score([ASK] * 10, ["none"] * 10).isnan().all()


def test_what_works_alone_and_not_together_is_taken_and_told(file: Path) -> None:
    with pytest.warns(UserWarning, match=r"raised ValueError: too many at once .* for 3 responses at once"):
        assert FunctionRewards(f"{file}:wrong_alone").score([ASK] * 3, ["a", "b", "c"])[:, 0].tolist() == [1, 1, 1]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("function", "options", "told"),
    [
        ("my_rewards.py", {}, "expected my_rewards:accuracy"),
        ("other.py:accuracy", {}, "no file .*other.py"),
        ("nowhere.at_all:accuracy", {}, "no module nowhere: give its file"),
        ("math:floor", {}, "no Python source"),
        ("my_rewards.py:acuracy", {}, r"no function 'acuracy' in it \(there: accuracy, seen"),
        ("broken.py:f", {}, r"raised SyntaxError: .*\(broken.py, line 1\)"),
        ("my_rewards.py:nothing_fits", {}, "takes text: expected a parameter `completions`"),
        ("my_rewards.py:unnamed", {}, "takes nothing: expected a parameter `completions`"),
        ("my_rewards.py:bad", {"arguments": {"limit": 3}}, "arguments.limit: function .* takes nothing beside"),
        ("my_rewards.py:short", {"arguments": {"anwser": 3}}, "takes answer beside .*did you mean 'answer'"),
        ("my_rewards.py:bad", {"time_limit": 0.0}, "must be positive"),
    ],
)
def test_what_cannot_be_called_is_told_before_anything_is_sampled(
    file: Path, tmp_path: Path, function: str, options: dict[str, Any], told: str
) -> None:
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(ConfigError, match=told):
        FunctionRewards(function, **options).ready()


@pytest.mark.bad_input
def test_a_missing_column_names_the_option(file: Path) -> None:
    scorer = FunctionRewards(f"{file}:accuracy")
    with pytest.raises(ConfigError, match=r"'answer', which row 1 does not carry: .* --data.keep_columns '\[answer\]'"):
        scorer.check_examples([row(answer="x"), row(1, solution="x")])
    with pytest.raises(ConfigError, match=r"asks for 'answer', which prompt 0 does not carry"):
        scorer.score([ASK], ["a"])
    with pytest.raises(ConfigError, match=r"names 'completions', which function .* is given as something else"):
        scorer.check_examples([row(answer="x", completions="y")])


def test_identity_is_source_and_settings(file: Path) -> None:
    def identity(**options: Any) -> str:
        return FunctionRewards(f"{file}:short", **options).identity

    before = identity()
    assert before == identity(time_limit=3.0, on_error="drop", batch_size=3)
    assert len({before, identity(arguments={"answer": "a"}), identity(conversational=True)}) == 3
    running = FunctionRewards(f"{file}:short")
    running.ready()
    file.write_text(SOURCE + "\n")
    assert identity() != before
    running.process.close()
    with pytest.raises(ConfigError, match=r"changed while the run was going"):
        running.score([ASK], ["a"])


def test_a_module_is_found_as_an_import_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "ours" / "rewards"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package / "two.py").write_text("TWO = 2.0\n")
    (package / "one.py").write_text("from ours.rewards.two import TWO\n\ndef f(completion):\n    return TWO\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    scorer = FunctionRewards("ours.rewards.one:f")
    assert "ours" not in sys.modules
    assert scorer.score([ASK], ["a"]).tolist() == [[2]]
    assert "ours" not in sys.modules


def test_nothing_is_left_behind(file: Path) -> None:
    """A process that hangs, and what it started, ends with the one that asked, even by kill -9."""
    file.write_text(
        "import subprocess, time\n\ndef hangs(completion):\n"
        "    child = subprocess.Popen(['sleep', '77'])\n"
        "    open('started', 'w').write(str(child.pid))\n    time.sleep(77)\n"
    )
    code = (
        "from align.rewards.function_process import FunctionProcess\n"
        "from align.rewards.function_source import FunctionSource\n"
        f"FunctionProcess(FunctionSource.find('{file}:hangs'), 77.0).call({{'completion': 'b'}})\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    asking = subprocess.Popen([sys.executable, "-c", code], env=environment)
    started = Path("started")
    _until(lambda: started.exists() and started.read_text() != "")
    sleeping = psutil.Process(int(started.read_text()))
    asking.kill()
    asking.wait()
    _until(lambda: not sleeping.is_running() or sleeping.status() == psutil.STATUS_ZOMBIE)


def _until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
