"""Any task of lm-eval on folders: a local task, its accuracy counted by plain forward passes, before and after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
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


def test_bad_input(tasks: Path, told, tmp_path: Path) -> None:
    model = f"[{tmp_path}]"
    assert "lm-eval has no 'nothing'" in told("benchmark", "lm-eval", "--models", model, "--tasks", "nothing")
    assert "name one of each" in told("benchmark", "lm-eval", "--models", model, "--tasks", ",")
    assert "limit must be" in told("benchmark", "lm-eval", "--models", model, "--tasks", "a", "--limit", "0")
