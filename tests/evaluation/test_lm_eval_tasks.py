"""Any task of lm-eval on folders: a local task, its accuracy counted by plain forward passes, before and after."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.evaluation.alignment_tax import cells, changes, difference, headed
from align.evaluation.lm_eval_tasks import Measured
from tests.cli.conftest import told
from tests.evaluation.test_harness import log_probability
from tests.tiny import save_tiny

pytest.importorskip("lm_eval")
__all__ = ["told"]
ROWS = [{"q": f"word {n}:", "choices": [" yes", " no way"], "label": n % 2} for n in range(9)]
TASK = """task: own_choice
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: choices
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (folder / "own.yaml").write_text(TASK.replace("FILE", str(tmp_path / "rows.jsonl")))
    return folder


def accuracy(folder: Path) -> float:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    hits = []
    for row in ROWS:
        worth = [log_probability(model, tokenizer, row["q"], choice) for choice in row["choices"]]
        hits.append(worth.index(max(worth)) == row["label"])
    return sum(hits) / len(hits)


def test_a_task_of_ones_own_before_and_after(
    tasks: Path, tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = shared / "stories260K-hf", save_tiny(tmp_path / "after")
    out = tmp_path / "found.json"
    words = ["benchmark", "lm-eval", "--models", f"[{before},{after}]", "--tasks", "own_choice"]
    assert main([*words, "--include", str(tasks), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    first, second = (m["results"][0] for m in found["models"])
    assert (first["task"], first["metric"], first["documents"], first["higher_is_better"]) == (
        "own_choice",
        "acc",
        9,
        True,
    )
    assert [first["value"], second["value"]] == pytest.approx([accuracy(before), accuracy(after)])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{second['value'] - first['value']:+.4f}"[:6] in shown
    apart = [b - a for a, b in zip(first["values"], second["values"], strict=True)]
    assert len(apart) == 9
    assert sum(apart) / 9 == pytest.approx(second["value"] - first["value"])
    assert f"± {statistics.stdev(apart) / 3:.4f}" in shown


@pytest.mark.slow  # reads the ten thousand tasks of lm-eval
def test_a_task_that_lm_eval_does_not_have(told, tmp_path: Path) -> None:
    assert "lm-eval has no 'nothing'" in told("benchmark", "lm-eval", "--models", f"[{tmp_path}]", "--tasks", "nothing")


def test_bad_input(told, tmp_path: Path) -> None:
    model = f"[{tmp_path}]"
    assert "name one of each" in told("benchmark", "lm-eval", "--models", model, "--tasks", ",")
    assert "limit must be" in told("benchmark", "lm-eval", "--models", model, "--tasks", "a", "--limit", "0")


def test_documents_that_lost_their_start_are_counted(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of nine rows the third is longer than a context of 64 bytes."""
    rows = [{**row, "q": "x" * 99} if n == 2 else row for n, row in enumerate(ROWS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = save_tiny(tmp_path / "short", max_position_embeddings=64)
    words = ["benchmark", "lm-eval", "--models", f"[{model}]", "--tasks", "own_choice", "--include", str(tasks)]
    assert main(words) == 0
    assert "own_choice: 1 of 9 documents are longer than the context: cut from the left" in capsys.readouterr().err


def measured(value: float, error: float | None = 0.1, values: tuple[float, ...] | None = None) -> Measured:
    return Measured("t", "acc", value, error, 4, True, values)


def test_the_error_of_a_difference_is_over_the_same_documents_where_they_are_known() -> None:
    """Of (1, 1, 0, 1) - (0, 1, 0, 1) = (1, 0, 0, 0): mean .25, standard deviation .5, error .25."""
    before, after = measured(0.5, values=(0.0, 1.0, 0.0, 1.0)), measured(0.75, values=(1.0, 1.0, 0.0, 1.0))
    assert difference(after, before) == pytest.approx((0.25, 0.25))
    assert difference(measured(0.75, 0.3), measured(0.5, 0.4)) == pytest.approx((0.25, 0.5))  # a 3-4-5 triangle
    assert difference(measured(0.75), measured(0.5, None)) == (0.25, None)
    other = Measured("u", "f1", 0.3, None, 9, None)
    first, second = changes([[before], [after, other]])
    assert cells(first) == (["0.5000 ± 0.1000", "0.7500 ± 0.1000"], ["+0.2500 ± 0.2500"])
    assert cells(second) == (["", "0.3000"], [""])
    assert headed(first) == ["t", "acc (up)", "4"]


def test_a_report_shows_what_a_run_costs_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a run folder, and from files of lm-eval's own, in the Markdown as on the page."""
    run = tmp_path / "dpo"
    run.mkdir()
    (run / "config.yaml").write_text("model: {class_path: M}")
    models = [
        {"model": name, "results": [measured(value)._asdict()]} for name, value in (("sft", 0.5), ("dpo<b>", 0.25))
    ]
    (run / "lm_eval.json").write_text(json.dumps({"tasks": ["t"], "models": models}))
    own = []
    for name, value in (("before", 0.5), ("after", 0.625)):
        results = {
            "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": value, "exact_match_stderr,strict-match": 0.1}
        }
        counts = {"gsm8k": {"original": 8, "effective": 8}}
        own.append(tmp_path / f"{name}.json")
        better = {"gsm8k": {"exact_match": True}}
        content = {"results": results, "n-samples": counts, "higher_is_better": better, "model_name": name}
        own[-1].write_text(json.dumps(content))
    words = ["report", str(run), "--lm_eval", json.dumps(list(map(str, own))), "--out", str(tmp_path / "r.html")]
    assert main(words) == 0
    shown, page = (tmp_path / "r.md").read_text(), (tmp_path / "r.html").read_text()
    assert "| t | acc (up) | 4 | 0.5000 ± 0.1000 | 0.2500 ± 0.1000 | -0.2500 ± 0.1414 |" in shown
    assert (
        "| gsm8k | exact_match,strict-match (up) | 8 | 0.5000 ± 0.1000 | 0.6250 ± 0.1000 | +0.1250 ± 0.1414 |" in shown
    )
    assert "-0.2500 ± 0.1414" in page
    assert "dpo<b>" not in page
    (run / "lm_eval.json").write_text('{"models": [{}]}')
    assert main(words) == 2
    assert "lm_eval.json: no results of lm-eval (KeyError" in capsys.readouterr().err
