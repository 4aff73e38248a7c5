"""Benchmarks of reward models, against the published programs' formulas written down again here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from align.cli.main import main
from align.evaluation.reward_benchmark import (
    ALL,
    AVERAGE,
    Kind,
    RewardBenchmarkItem,
    Scored,
    differences,
    judge_items,
    summarise,
)
from align.evaluation.reward_benchmark_files import read_items
from align.evaluation.statistics import Line
from align.records import Message
from align.rewards.reward_model_scorer import RewardModelScorer
from tests.tiny import save_reward_model

PROMPT = (Message("user", "p"),)


def item(subset: str, right: int = 1, wrong: int = 1, name: str = "") -> RewardBenchmarkItem:
    return RewardBenchmarkItem(name, subset, PROMPT, ("r",) * right, ("w",) * wrong)


def by_part(lines: list[Line], measure: str = "accuracy") -> dict[str, float]:
    return {line.part: line.value.value for line in lines if line.measure == measure}


def test_sections_of_reward_bench() -> None:
    """Chat is 1 of 3; Reasoning has 1 of 1 in code, 0 of 1 in mathematics, which weighs 984 / 447 = 2.2013."""
    subsets = ["alpacaeval-easy", "alpacaeval-easy", "mt-bench-med", "hep-cpp", "math-prm"]
    right = [[1.0], [0.0], [0.5], [2.0], [0.0]]
    wrong = [[0.0], [1.0], [0.5], [1.0], [1.0]]  # the third is a tie: wrong
    lines = summarise("pairs", judge_items("pairs", [item(s) for s in subsets], right, wrong))
    found = by_part(lines)
    reasoning = 100 * 1 / (1 + 984 / 447)
    assert found["alpacaeval-easy"] == 50
    assert found["Chat"] == pytest.approx(100 / 3)
    assert found["Reasoning"] == pytest.approx(reasoning)
    assert found[AVERAGE] == pytest.approx((100 / 3 + reasoning) / 2)
    assert found[ALL] == pytest.approx(40)
    assert {line.part: line.items for line in lines}["Chat"] == 3


def test_the_full_reward_bench_has_its_published_weights() -> None:
    """With 447 rows of mathematics and 6 x 164 of code both halves of Reasoning weigh the same."""
    codes = ("cpp", "go", "java", "js", "python", "rust")
    names = ["math-prm"] * 447 + [f"hep-{c}" for c in codes for _ in range(164)]
    values = np.array([[float(n == "math-prm")] for n in names])
    assert by_part(summarise("pairs", Scored(names, values)))["Reasoning"] == pytest.approx(50)


def test_n_by_n_as_rm_bench_does() -> None:
    """RM-Bench's matrix of chosen styles against rejected styles: above the diagonal is hard, below it easy."""
    draws = np.random.default_rng(0).normal(size=(20, 2, 3))
    rows = [item("chat", 3, 3)] * 20
    lines = summarise("n_by_n", judge_items("n_by_n", rows, draws[:, 0].tolist(), draws[:, 1].tolist()))
    matrix = np.zeros((3, 3))
    for right, wrong in draws:
        for i in range(3):
            for j in range(3):
                matrix[i, j] += right[i] > wrong[j]
    matrix /= 20
    assert by_part(lines, "hard")["chat"] == pytest.approx(100 * np.triu(matrix, 1).sum() / 3)
    assert by_part(lines, "normal")["chat"] == pytest.approx(100 * np.diag(matrix).mean())
    assert by_part(lines, "easy")["chat"] == pytest.approx(100 * np.tril(matrix, -1).sum() / 3)
    assert by_part(lines, "average")["chat"] == pytest.approx(100 * matrix.mean())


def test_halves_of_safety_weigh_the_same() -> None:
    names = ["safety-refuse"] * 3 + ["safety-response"] + ["chat"]
    values = np.array([[1.0] * 4] * 3 + [[0.0] * 4] + [[1.0] * 4])
    found = by_part(summarise("n_by_n", Scored(names, values)), "hard")
    assert (found["safety"], found[AVERAGE], found[ALL]) == (50, 75, 80)


def test_best_of_n_shares_the_top() -> None:
    """Alone at the top 1, one of two at the top 1/2, below it 0; a response that cannot be read is left out."""
    rows = [item("Math", 1, 3)] * 4
    right = [[2.0], [2.0], [0.0], [float("nan")]]
    wrong = [[1.0, 1, 1], [2.0, 1, 1], [1.0, 0, 0], [1.0, 1, 1]]
    scored = judge_items("best_of_n", rows, right, wrong)
    assert scored.values[:3, 0].tolist() == [1, 0.5, 0]
    assert np.isnan(scored.values[3, 0])
    assert by_part(summarise("best_of_n", scored))["Math"] == pytest.approx(50)


def test_ties_of_reward_bench_2() -> None:
    """Their weighted sum over all prompts equals the mean of ours over prompts; one spread of 0 is among them."""
    draw = np.random.default_rng(4)
    rows, right, wrong = [], [], []
    for n in range(12):
        for kind, count in (("ref", 1), ("tied", 3)):
            rows.append(item("Ties", count, 4, f"{kind}:{n}"))
            right.append((draw.normal(1.5, 0.4, size=count) if n else np.ones(count)).tolist())
            wrong.append(draw.normal(0, 0.7, size=4).tolist())
    reference, tied = slice(0, None, 2), slice(1, None, 2)
    spread = np.array([max(r) - min(r) for r in right[tied]])
    margins = [
        np.array([min(r) - max(w) for r, w in zip(right[part], wrong[part], strict=True)]) for part in (reference, tied)
    ]
    least = np.minimum(*margins)
    with np.errstate(divide="ignore", invalid="ignore"):
        bonus = np.nan_to_num(np.tanh(least / spread - 1), nan=0.0).mean()
    expected = 0.3 * (margins[1] > 0).mean() + 0.3 * (margins[0] > 0).mean()
    expected += 0.2 * (margins[1] > spread).mean() + 0.2 * (least > spread).mean() + 0.01 * bonus
    scored = judge_items("best_of_n", rows, right, wrong)
    assert len(scored.values) == 12
    assert 0.3 < expected < 0.95
    assert by_part(summarise("best_of_n", scored))["Ties"] == pytest.approx(100 * expected)


def test_differences_are_paired() -> None:
    """Two models that differ on one row of fifty: the interval is that of one row, not of two independent shares."""
    first = np.random.default_rng(0).integers(0, 2, size=(50, 1)).astype(float)
    second = first.copy()
    second[0] = 1 - second[0]
    (line,) = (x for x in differences("pairs", Scored(["a"] * 50, second), Scored(["a"] * 50, first)) if x.part == "a")
    assert abs(line.value.value) == pytest.approx(2)
    assert line.value.high - line.value.low <= 6.1


def test_rows_that_cannot_be_read_count_nowhere() -> None:
    """Of 4 + 2 + 1 rows 3 + 1 + 0 are read: the means are over those, the section without one is not in the average."""
    nan = float("nan")
    subsets = ["alpacaeval-easy"] * 4 + ["mt-bench-med"] * 2 + ["hep-cpp"]
    values = np.array([[1.0], [0.0], [1.0], [nan], [0.0], [nan], [nan]])
    lines = {line.part: line for line in summarise("pairs", Scored(subsets, values))}
    counts = {part: (line.items, line.left_out) for part, line in lines.items()}
    assert counts["Chat"] == (4, 2)
    assert (counts["alpacaeval-easy"], counts["hep-cpp"], counts["Reasoning"]) == ((3, 1), (0, 1), (0, 1))
    assert counts[ALL] == counts[AVERAGE] == (4, 3)
    found = {part: line.value.value for part, line in lines.items()}
    assert np.isnan(found["hep-cpp"])
    assert found["alpacaeval-easy"] == pytest.approx(200 / 3)
    assert found["Chat"] == found[AVERAGE] == found[ALL] == pytest.approx(50)
    apart = {line.part: line for line in differences("pairs", Scored(subsets, 1 - values), Scored(subsets, values))}
    assert apart[ALL].value.value == pytest.approx(0)
    assert all(np.isnan(line.value.value) for line in summarise("pairs", Scored(["a"], np.array([[nan]]))))


def test_a_row_longer_than_the_context(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_reward_model(tmp_path / "rm")
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b", "subset": "s"} for _ in range(3)]
    rows += [{"prompt": "p", "chosen": "a " * 2000, "rejected": "b", "subset": part} for part in ("s", "long")]
    Path("b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["benchmark", "rewards", "--models", f"[{folder}]", "--data", "b.jsonl", "--out", "b.json"]) == 0
    assert "left out" in capsys.readouterr().out
    text = Path("b.json").read_text()
    assert "NaN" not in text
    lines = {line["part"]: line for line in json.loads(text)["models"][str(folder)]}
    assert (lines[ALL]["items"], lines[ALL]["left_out"]) == (3, 2)
    assert lines["long"]["value"] == [None, None, None]
    assert lines[ALL]["value"] == lines["s"]["value"] != [None, None, None]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"chosen": "a", "rejected": "b"}, "pairs"),
        ({"chosen": ["a"], "rejected": ["b", "c"], "num_correct": 1}, "best_of_n"),
        ({"chosen": ["a", "b"], "rejected": ["c", "d"], "domain": "chat"}, "n_by_n"),
    ],
)
def test_kinds_are_told_apart(row: dict, kind: Kind) -> None:
    assert read_items([("here", {"prompt": "p", **row})])[0] == kind


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Accuracies are those of the oracle's own scores; the second model is compared with the first."""
    folders = [str(save_reward_model(tmp_path / f"rm{seed}", seed)) for seed in (1, 2)]
    texts = [(f"question {n}", "answer " * (n % 3 + 1), "other" * (n % 4 + 1)) for n in range(12)]
    rows = [{"prompt": p, "chosen": a, "rejected": b, "subset": f"s{n % 2}"} for n, (p, a, b) in enumerate(texts)]
    Path("b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["benchmark", "rewards", "--models", json.dumps(folders), "--data", "b.jsonl", "--out", "o/b.json"]
    assert main(words) == 0
    written = json.loads(Path("o/b.json").read_text())
    for folder in folders:
        oracle = RewardModelScorer(folder)
        prompts = [[Message("user", p)] for p, _, _ in texts]
        right = oracle.score(prompts, [a for _, a, _ in texts]) > oracle.score(prompts, [b for _, _, b in texts])
        (total,) = (x["value"][0] for x in written["models"][folder] if x["part"] == ALL)
        assert total == pytest.approx(100 * right.double().mean().item())
    assert list(written["differences"]) == folders[1:]
    assert "pairs, 12 rows: % right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"prompt": "p", "chosen": "a"}', "expected 'chosen' and 'rejected'"),
        ('{"prompt": "p", "chosen": "a", "rejected": null}', "line 1: expected 'chosen' and 'rejected'"),
        (
            '{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": "p", "chosen": ["a"], "rejected": ["b"]}',
            "line 2",
        ),
        ('{"prompt": "", "chosen": "a", "rejected": "b"}', "'prompt' must be"),
        ('{"prompt": "p", "chosen": ["a", "b"], "rejected": ["c"], "subset": "Math"}', "2 right responses"),
        ('{"prompt": "p", "chosen": ["a"], "rejected": ["c", "d"], "subset": "Ties", "id": "x"}', "ref:N"),
        ('{"prompt": "p", "chosen": "a", "rej', "not valid JSON"),
        ("", "empty"),
    ],
)
def test_bad_files(text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_reward_model(tmp_path / "rm")
    Path("b.jsonl").write_text(text)
    assert main(["benchmark", "rewards", "--models", f"[{folder}]", "--data", "b.jsonl"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("align benchmark rewards:")
    assert says in line


def test_unknown_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "reward"]) == 2
    assert "did you mean 'rewards'" in capsys.readouterr().err
    assert main(["benchmark"]) == 0
    assert "truthfulqa" in capsys.readouterr().out


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}')
    assert main(["benchmark", "rewards", "--models", "[nope]", "--data", "b.jsonl"]) == 2
    assert "reward model nope: cannot be loaded" in capsys.readouterr().err
