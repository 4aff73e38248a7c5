"""Reward functions on the command line: `evaluate`, `data rank`, `data read`, and what a config may name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.cli.main import main
from align.evaluation.evaluation_reader import read_evaluation
from tests.cli.things import lines

RIGHT = ("--scorer", "FunctionRewards", "--scorer.function", "align.rewards.verifiable:exact_match")


def test_answers_are_evaluated_by_what_their_rows_expect(capsys: pytest.CaptureFixture[str]) -> None:
    """Two of three answers are right: .67; nothing of the columns changes which prompts these are."""
    lines(Path("tasks.jsonl"), [{"question": f"{n} + {n}?", "answer": str(2 * n)} for n in range(3)])
    lines(Path("said.jsonl"), [{"prompt": f"{n} + {n}?", "completion": text} for n, text in enumerate("025")])
    words = ["evaluate", "--models.a", "said.jsonl", "--prompts", "tasks.jsonl", *RIGHT]
    assert main([*words, "--keep_columns", "[answer]", "--out", "out"]) == 0
    shown = capsys.readouterr().out
    assert 'scorer: {"function": "align.rewards.verifiable:exact_match"' in shown
    assert "exact_match" in shown
    assert "sigmoid" not in shown  # that of a 0 would be a chance of one half
    level = read_evaluation(Path("out/evaluation.json")).models["a"]["0.0"]
    assert level.per_prompt["exact_match"] == [1, 1, 0]
    assert level.rewards["exact_match"]["total"].value == pytest.approx(2 / 3)
    assert main([*words, "--out", "other"]) == 2
    assert "asks for 'answer', which prompt 1 does not carry" in capsys.readouterr().err


def test_a_function_that_reads_rows_judges_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """Against the first two: a tie where both are right, two losses: a win rate of (1/2 + 0 + 0) / 3."""
    lines(
        Path("tasks.jsonl"), [{"prompt": f"{n}?", "chosen": str(n), "rejected": "x", "answer": str(n)} for n in "012"]
    )
    for name, texts in (("said", "012"), ("other", "0ab")):
        lines(Path(f"{name}.jsonl"), [{"prompt": f"{n}?", "completion": text} for n, text in enumerate(texts)])
    words = ["evaluate", "--models.a", "said.jsonl", "--models.b", "other.jsonl", "--prompts", "tasks.jsonl"]
    words += ["--judge", "ScorerJudge", *(word.replace("--scorer", "--judge.scorer") for word in RIGHT)]
    words += ["--against", "a", "--human", "tasks.jsonl", "--out", "out"]
    assert main([*words, "--keep_columns", "[answer]"]) == 0
    found = json.loads(Path("out/evaluation.json").read_text())
    assert found["judge"]["b"]["total"]["win_rate"][0] == pytest.approx(1 / 6)
    assert found["human"]["rate"][0] == 1
    assert main(words) == 2
    assert "asks for 'answer', which prompt 1 does not carry" in capsys.readouterr().err


def test_lists_are_ranked_by_a_function_that_reads_their_rows() -> None:
    rows = [{"prompt": f"q{n}", "completions": ["a", "b"], "scores": [1, 0], "answer": "ab"[n]} for n in range(2)]
    lines(Path("lists.jsonl"), rows)
    words = ["data", "rank", "--data", "lists.jsonl", "--out", "ranked.jsonl", *RIGHT, "--keep_columns", "[answer]"]
    assert main(words) == 0
    ranked = [json.loads(line) for line in Path("ranked.jsonl").read_text().splitlines()]
    assert [(row["completions"], row["scores"]) for row in ranked] == [(["a", "b"], [1, 0]), (["b", "a"], [1, 0])]


def test_kept_columns_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    lines(Path("tasks.jsonl"), [{"question": "1 + 1?", "answer": "2", "test": {"in": [1]}}])
    assert main(["data", "read", "tasks.jsonl", "--keep_columns", "[answer,test]"]) == 0
    shown = capsys.readouterr().out
    assert "layout: prompts" in shown
    assert 'kept: {"answer": "2", "test": {"in": [1]}}' in " ".join(shown.replace("│", " ").split())
    assert "not used" not in shown


@pytest.mark.injection
class TestPolicy:
    @pytest.fixture(autouse=True)
    def own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ALIGN_IMPORT_ALLOW", raising=False)
        for name in ("own.py", "other/own.py"):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text("open('was-here', 'w').close()\n\ndef f(completion):\n    return 1.0\n")
        lines(Path("lists.jsonl"), [{"prompt": "q", "completions": ["a", "b"], "scores": [1, 0]}])

    @staticmethod
    def rank(function: str) -> int:
        nested = {"class_path": "align.rewards.function_rewards.FunctionRewards", "init_args": {"function": function}}
        members = {"one": nested, "two": nested}
        Path("own.yaml").write_text(
            json.dumps({"scorer": {"class_path": "RewardEnsemble", "init_args": {"scorers": members}}})
        )
        return main(["data", "rank", "-c", "own.yaml", "--data", "lists.jsonl", "--out", "o.jsonl"])

    @pytest.mark.parametrize(
        ("function", "trusted"),
        [("own.py:f", "own.py"), ("own:f", "own"), ("os.path:join", "os"), ("~/own.py:f", "~/own.py")],
    )
    def test_what_is_not_allowed_is_never_imported(
        self, function: str, trusted: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.rank(function) == 2
        assert f"if you trust {trusted}, put ALIGN_IMPORT_ALLOW={trusted} in front" in capsys.readouterr().err
        assert not Path("was-here").exists()

    @pytest.mark.parametrize(
        ("allowed", "function"), [("own.py", "own.py:f"), ("own", "own:f"), ("x,./own.py", "own.py:f")]
    )
    def test_what_is_allowed_runs(self, allowed: str, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALIGN_IMPORT_ALLOW", allowed)
        assert self.rank(function) == 0
        assert Path("was-here").exists()

    def test_another_file_of_that_name_is_another_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALIGN_IMPORT_ALLOW", "own.py,own")
        assert self.rank("other/own.py:f") == 2
        assert self.rank("other.own:f") == 2
        assert not Path("was-here").exists()
