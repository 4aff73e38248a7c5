"""AlpacaEval from answers and a judge: its own prompt, log-probabilities, and answer files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.cli.main import main
from tests.judges.conftest import Server
from tests.tiny import save_reward_model

INSTRUCTIONS = ("Say one.", "Say two.", "Say three.")


def answers(name: str, texts: tuple[str, ...], instructions: tuple[str, ...] = INSTRUCTIONS) -> str:
    rows = [{"instruction": i, "output": t, "dataset": "d"} for i, t in zip(instructions, texts, strict=True)]
    Path(f"{name}.json").write_text(json.dumps([{**row, "generator": name} for row in rows]))
    return f"{name}.json"


def words(ours: str) -> list[str]:
    baseline = answers("base", ("1", "2", "3"))
    found = ["benchmark", "alpaca-eval", "--answers", f"[{ours}]", "--baseline", baseline]
    return [*found, "--annotations", "annotations.json", "--out", "o.json"]


def test_a_server_is_asked_as_alpaca_eval_2_asks(server: Server) -> None:
    """The server gives m a log-probability of -0.5 and M of -1.5 in both orders: ties, but for equal answers unasked."""
    asked = ["--responder", "Endpoint", "--responder.base_url", server.url, "--responder.model", "judge-1"]
    asked += ["--responder.api_key_env", "JUDGE_KEY", "--store", "s.sqlite", "--fences", "false"]
    assert main([*words(answers("mine", ("one", "two", "3"))), *asked]) == 0
    bodies = [request["body"] for request in server.requests()]
    assert len(bodies) == 4
    assert all((body["logprobs"], body["top_logprobs"]) == (True, 5) for body in bodies)
    assert (
        "make sure your output only contains one of the following model identifiers"
        in bodies[0]["messages"][-1]["content"]
    )
    rows = json.loads(Path("annotations.json").read_text())
    assert [row["preference"] for row in rows] == pytest.approx([1.5] * 3)
    assert rows[0] == {
        "instruction": "Say one.",
        "dataset": "d",
        "output_1": "1",
        "generator_1": "base",
        "output_2": "one",
        "generator_2": "mine",
        "annotator": "judge-1 (alpaca_eval_2)",
        "preference": rows[0]["preference"],
    }
    assert main(["benchmark", "alpaca-eval", "--annotations", "annotations.json", "--out", "again.json"]) == 0
    both = [json.loads(Path(name).read_text())["models"] for name in ("o.json", "again.json")]
    assert both[0] == both[1]


def test_any_other_judge(tmp_path: Path) -> None:
    folder = str(save_reward_model(tmp_path / "rm"))
    assert main([*words(answers("mine", ("one", "two", "3"))), "--judge", "RewardJudge", "--judge.path", folder]) == 0
    row = json.loads(Path("o.json").read_text())["models"]["mine"]
    assert (row["n_draws"], row["n_wins"] + row["n_wins_base"]) == (1, 2)


@pytest.mark.parametrize(
    ("texts", "instructions", "says"),
    [
        (("a", "b"), INSTRUCTIONS[:2], "1 of 3 have no answer, 0 are not in base.json; the first 'Say three.'"),
        (("a", "b", "c"), ("Say one.", "Say two.", "Other."), "1 of 3 have no answer, 1 are not in base.json"),
        (("a",) * 4, (*INSTRUCTIONS, "Say one."), "1 of 4 rows answer a prompt a second time, the first 'Say one.'"),
    ],
)
def test_answers_to_other_instructions(
    texts: tuple[str, ...], instructions: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(answers("mine", texts, instructions)), "--judge", "RewardJudge", "--judge.path", "x"]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "name either --responder"),
        (["--judge", "GoldJudge", "--store", "s.sqlite"], "--store: belongs to --responder"),
    ],
)
def test_settings_that_do_not_fit(more: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words(answers("mine", ("a", "b", "c"))), *more]) == 2
    assert says in capsys.readouterr().err
    assert main(["benchmark", "alpaca-eval", "--annotations", "a.json", "--baseline", "b.json"]) == 2
    assert "--baseline: belongs to --answers" in capsys.readouterr().err


def test_evaluate_takes_answer_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = [{"prompt": i, "completion": "x"} for i in INSTRUCTIONS]
    Path("prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    files = answers("mine", ("one", "two two", "3")), answers("other", ("a", "b", "c"))
    judge = ["--judge", "RewardJudge", "--judge.path", str(save_reward_model(tmp_path / "rm"))]
    command = ["evaluate", "--models", f"[{files[0]}]", "--against", files[1], "--prompts", "prompts.jsonl", *judge]
    assert main([*command, "--out", "e"]) == 0
    found = json.loads(Path("e/evaluation.json").read_text())
    assert found["models"]["mine.json"]["0.0"]["text"]["mean_words"] == pytest.approx(4 / 3)
    assert found["judge"]["mine.json"]["total"]["items"] == 3
    answers("other", ("a", "b"), INSTRUCTIONS[:2])
    assert main([*command, "--out", "e"]) == 2
    assert "other.json: no answer to 1 of 3 prompts, the first 'Say three.'" in capsys.readouterr().err
