"""Reward functions that compare the samples of a prompt: what a call holds, in rounds too, and what a fault costs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from align.cli.main import main
from align.errors import ConfigError, RewardError
from align.records import Example, Message
from align.rewards.function_rewards import FunctionRewards
from align.rounds.round_store import RoundStore
from tests.rounds.test_function_rounds import words

SOURCE = """
def rare(completions, answer, **kwargs):
    assert len(set(answer)) == 1, answer
    if "fault" in completions:
        raise ValueError("no comparison")
    return [len(completions) - completions.count(c) + 100 * len(answer[0]) for c in completions]


def one(completion):
    return 1.0
"""


@pytest.fixture(autouse=True)
def source(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_rewards.py").write_text(SOURCE)
    monkeypatch.setenv("ALIGN_IMPORT_ALLOW", "own_rewards.py")


def examples(*names: str) -> list[Example]:
    kept = {name: json.dumps({"answer": name}) for name in names}
    return [Example(name, (Message("user", name),), kept_columns=kept[name]) for name in names]


def rare(**options: Any) -> FunctionRewards:
    return FunctionRewards("own_rewards.py:rare", together=True, **options)


def test_a_call_has_all_samples_of_one_prompt() -> None:
    """Whatever the order of the rows, and however small a batch: samples that no other one equals are worth most."""
    asked = examples("b", "aa", "b", "b", "aa")
    found = rare(batch_size=1).score_examples(asked, ["x", "y", "x", "z", "w"])
    assert found[:, 0].tolist() == [101, 201, 101, 102, 201]
    assert rare().compares
    assert rare().identity != FunctionRewards("own_rewards.py:rare").identity


def test_equal_prompts_without_records_are_one_prompt() -> None:
    function = FunctionRewards("own_rewards.py:rare", together=True, arguments={"answer": "q"})
    prompts = [(Message("user", text),) for text in ("p", "q", "p")]
    assert function.score(prompts, ["x", "x", "x"])[:, 0].tolist() == [100, 100, 100]


def test_a_fault_leaves_out_the_prompt() -> None:
    asked = examples("b", "a", "b", "a")
    with pytest.raises(RewardError, match=r"raised ValueError.*no comparison.* for b, the response 'x'"):
        rare().score_examples(asked, ["x", "y", "fault", "y"])
    found = rare(on_error="drop").score_examples(asked, ["x", "y", "fault", "y"])[:, 0].tolist()
    assert [math.isnan(v) for v in found] == [True, False, True, False]


def test_a_function_of_one_response_is_refused() -> None:
    with pytest.raises(ConfigError, match="takes one `completion`, expected `completions`"):
        FunctionRewards("own_rewards.py:one", together=True).ready()


def test_in_rounds_every_sample_is_compared_with_its_own(model_folder: Path) -> None:
    rows = [{"prompt": f"is it so {n}?", "chosen": "yes", "rejected": "no", "answer": "a" * (n % 9)} for n in range(30)]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ("--data.keep_columns", "[answer]", "--trainer.callbacks.scorer.together", "true")
    command = words(model_folder, *more, "--trainer.callbacks.generation", "{max_new_tokens: 1, num_samples: 6}")
    command = [word.replace("own_rewards.py:near", "own_rewards.py:rare") for word in command]
    place = command.index("--trainer.callbacks.scorer.arguments")
    assert main(command[:place] + command[place + 2 :]) == 0
    by_prompt: dict[str, list[Any]] = {}
    for sample in RoundStore(Path("run/rounds/rounds.sqlite")).samples(0):
        by_prompt.setdefault(sample.prompt, []).append(sample)
    for samples in by_prompt.values():
        texts = [s.text for s in samples]
        assert [s.scores[0] % 100 for s in samples] == [6 - texts.count(text) for text in texts]
