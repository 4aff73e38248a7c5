"""Rounds scored by a user's function: a bug stops the run, the mended function goes on with the samples that are there."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from align.cli.main import main
from align.judges.win_rates import ScorerJudge, WinRates
from align.models.small import new_llama, word_tokenizer
from align.records import Example, Message
from align.rewards.clipped_rewards import ClippedRewards
from align.rewards.ensemble import RewardEnsemble
from align.rewards.function_rewards import FunctionRewards
from align.rewards.min_max_scaled import MinMaxScaled
from align.rewards.scorers import Direction, Scorer
from align.rewards.weighted_attributes import WeightedAttributes
from tests.rounds.runs import RESAMPLING
from tests.test_configs import CPU, ROOT

BUG = "def near(completions, answer, scale):\n    return [scale / (len(a) - 1) for a in answer]\n"
MENDED = """
def near(completions, answer, scale):
    return [scale * sum(map(ord, c)) - len(a) for c, a in zip(completions, answer)]
"""


def words(model: Path, *more: str) -> list[str]:
    return [
        *("fit", "-c", str(ROOT / "configs" / "method" / "dpo.yaml"), "-c", CPU, "--model.backbone.path", str(model)),
        *("--data", "PreferenceFileDataModule", "--data.path", "data.jsonl", "--trainer.default_root_dir", "run"),
        *("--data.batching.groups", "4", "--trainer.max_epochs", "1", "--trainer.callbacks+", RESAMPLING),
        *("--trainer.callbacks.selection", "BestWorst", "--trainer.callbacks.prompts", "12"),
        *("--trainer.callbacks.generation", "{max_new_tokens: 4, num_samples: 3}"),
        *("--trainer.callbacks.missing_eos_penalty", "0.0", "--trainer.callbacks.scorer", "FunctionRewards"),
        *("--trainer.callbacks.scorer.function", "own_rewards.py:near"),
        *("--trainer.callbacks.scorer.arguments", "{scale: 2}", *more),
    ]


@pytest.fixture
def data() -> list[dict[str, Any]]:
    rows = [{"prompt": f"is it so {n}?", "chosen": "yes", "rejected": "no", "answer": "a" * (n % 9)} for n in range(30)]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("own_rewards.py").write_text(BUG)
    return rows


def test_a_function_is_mended_and_the_run_goes_on(
    data: list[dict[str, Any]], model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words(model_folder, "--data.keep_columns", "[answer]")
    assert main(command) == 2
    assert "put ALIGN_IMPORT_ALLOW=own_rewards.py in front of the command" in capsys.readouterr().err
    monkeypatch.setenv("ALIGN_IMPORT_ALLOW", "own_rewards.py")
    assert main(words(model_folder)) == 2
    assert "asks for 'answer', which line " in capsys.readouterr().err
    assert _samples("ids") == []  # before anything was sampled
    for path in Path("run").glob("config.yaml"):
        path.unlink()  # another setting is another run
    assert main(command) == 3
    told = capsys.readouterr().err
    assert "own_rewards.py:near raised ZeroDivisionError" in told
    assert "(own_rewards.py, line 2) for line " in told
    drawn = _samples("ids")
    assert len(drawn) == 36
    Path("own_rewards.py").write_text(MENDED)
    assert main(command) == 0
    assert _samples("ids") == drawn
    answers = {f"line {n + 1}": row["answer"] for n, row in enumerate(data)}
    for prompt, text, scores in _samples("prompt, text, scores"):
        assert json.loads(scores) == [2 * sum(map(ord, text)) - len(answers[prompt])]
    sealed = [json.loads(row) for row in Path("run/rounds/round-0000.jsonl").read_text().splitlines()]
    assert sealed
    assert all(json.loads(r["kept_columns"]) == {"answer": answers[r["id"].split("@")[0]]} for r in sealed)


def _samples(columns: str) -> list[Any]:
    with sqlite3.connect("run/rounds/rounds.sqlite") as db:
        return db.execute(f"SELECT {columns} FROM sample ORDER BY prompt, number").fetchall()


def test_the_shipped_rewards_are_those_of_a_reader(tmp_path: Path) -> None:
    """A model of digits answers at random; right is who ends with the sum, GSM8K's mark and a box apart."""
    pytest.importorskip("math_verify")
    tokenizer = word_tokenizer(["+", "?"])
    model = new_llama(tokenizer, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, max_positions=256)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [
        {"prompt": f"{n % 4} + {n % 5} ?", "chosen": "1", "rejected": "0", "answer": f"so\n#### {n % 4 + n % 5}"}
        for n in range(20)
    ]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ("method/dpo.yaml", "callbacks/verifiable_rewards.yaml")
    command = ["fit", *(word for name in files for word in ("-c", str(ROOT / "configs" / name))), "-c", CPU]
    command += [
        "--data.path",
        "data.jsonl",
        "--model.backbone.path",
        str(tmp_path / "model"),
        "--data.batching.groups",
        "4",
    ]
    command += ["--trainer.max_epochs", "1", "--trainer.default_root_dir", "run"]
    assert main([*command, "--trainer.callbacks.generation.max_new_tokens", "3"]) == 0
    answers = {f"line {n + 1}": str(n % 4 + n % 5) for n in range(20)}
    found = [(answers[p], text.split(), json.loads(scores)) for p, text, scores in _samples("prompt, text, scores")]
    for answer, said, scores in found:
        if said and said[-1].isdigit() and "+" not in said:
            assert scores == [float(said[-1] == answer), 0.0], said
    assert {scores[0] for _, _, scores in found} == {0.0, 1.0}


class Constant(Scorer):
    """Stands for a reward model: two attributes that need no columns."""

    attributes = ("model", "other")
    identity = "constant"

    def score(self, prompts: Any, responses: Any) -> Any:
        import torch

        return torch.tensor([[float(len(r)), -1.0] for r in responses])


def test_functions_models_and_win_rates_weigh_together() -> None:
    """Of 'b', 'bb' with answer 'bb': right 0 and 1, model 1 and 2, win rates (.5 + 0) / 2 and (.5 + 1) / 2.

    2 right + model / 2 - win rate: .5 - .25 and 2 + 1 - .75; the model's score clipped at 1.5: 2 + .75 - .75.
    """
    right = FunctionRewards("align.rewards.verifiable:exact_match", name="right")
    wins = WinRates(ScorerJudge(right))
    joined = RewardEnsemble({"right": right, "model": Constant(), "wins": wins})
    example = Example("one", (Message("user", "Which?"),), kept_columns='{"answer": "bb"}')
    direction = Direction({"right": 2.0, "model": 0.5, "wins": -1.0})
    assert joined.compares
    for scorer, expected in ((joined, [0.25, 2.25]), (ClippedRewards(joined, {"model": (None, 1.5)}), [0.25, 2.0])):
        assert scorer.compares
        scorer.check_examples([example])
        rows = scorer.score_examples([example] * 2, ["b", "bb"]).tolist()
        assert [direction.of(scorer.attributes, row) for row in rows] == pytest.approx(expected)
    apart = RewardEnsemble({"right": right, "model": Constant()}, "apart")
    assert apart.attributes == ("right", "model")
    assert apart.score_examples([example] * 2, ["b", "bb"]).tolist() == [[0, 1], [1, 2]]
    renamed = WeightedAttributes(wins, {"share": {"win_rate": 1.0}})
    assert renamed.compares
    assert renamed.score_examples([example] * 2, ["b", "bb"])[:, 0].tolist() == [0.25, 0.75]
    points = MinMaxScaled(right, {"right": (0.0, 2.0)})
    assert points.score_examples([example], ["bb"]).tolist() == [[50.0]]
    told: Any = points.report()
    assert told["asked"] > 0


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({}, "names no attribute"),
        ({"model": (2.0, 1.0)}, r"limits.model: expected \[lowest, highest\]"),
        ({"model": (None, None)}, r"limits.model: expected \[lowest, highest\]"),
        ({"wit": (0.0, 1.0)}, "limits name 'wit', the scorer has model, other"),
    ],
)
def test_limits_that_limit_nothing(limits: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        _ = ClippedRewards(Constant(), limits).attributes


def test_a_mended_function_is_the_same_scorer_for_a_run_and_another_for_its_scores(tmp_path: Path) -> None:
    path = tmp_path / "f.py"
    found = []
    for text in (BUG, MENDED):
        path.write_text(text)
        function = FunctionRewards(f"{path}:near")
        outer = ClippedRewards(RewardEnsemble({"a": function, "b": Constant()}), {"a": (0.0, 1.0)})
        found += [(s.identity, s.lasting_identity) for s in (function, outer)]
    for before, after in ((found[0], found[2]), (found[1], found[3])):
        assert before[0] != after[0]
        assert before[1] == after[1]
    assert found[1][1] != found[0][1]


def test_the_functions_of_the_docs(tmp_path: Path) -> None:
    """Two words are one from three and none from two; 'Please' is polite."""
    page = (ROOT / "docs" / "how-to" / "reward-functions.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    (tmp_path / "my_rewards.py").write_text(code)
    examples = [Example(str(n), (Message("user", "a"),), kept_columns=json.dumps({"answer": n})) for n in (3, "2")]
    found = [
        FunctionRewards(f"my_rewards.py:{f}").score_examples(examples, ["Please do"] * 2) for f in ("near", "polite")
    ]
    assert [scores[:, 0].tolist() for scores in found] == [[-1, 0], [1, 1]]


def test_rows_that_repeat_a_prompt_are_told(
    data: list[dict[str, Any]], model_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By hand: 6 prompts, each in two rows; the second answer is another one for those of even numbers."""
    rows = [{**data[n % 6], "answer": "a" * (n % 6) + "b" * (n >= 6 and n % 2 == 0)} for n in range(12)]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("own_rewards.py").write_text(MENDED)
    monkeypatch.setenv("ALIGN_IMPORT_ALLOW", "own_rewards.py")
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        assert main(words(model_folder, "--data.keep_columns", "[answer]")) == 0
    told = "6 different prompts; 6 of 12 rows repeat a prompt of another, of which 3 have other values in kept columns"
    assert told in caplog.text
    assert "prompts is 12, a round has the 6 that there are" in caplog.text
