"""No file of results holds NaN or Infinity: one place writes them, and what it wrote null for is read back as NaN."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from align.cli.evaluation_tables import write_json
from align.cli.main import main
from align.evaluation.evaluation_reader import read_evaluation
from align.evaluation.fronts import Front, Point, read_front, write_front
from align.evaluation.run_log import append, read_numbers
from align.strict_json import json_text, number
from tests.cli.things import TEMPLATE, lines
from tests.test_imports import FILES, ROOT
from tests.tiny import save_reward_model, save_tiny

NO_RESULTS = {
    "keys and fingerprints": {
        *(
            "annotation/items",
            "annotation/results",
            "annotation/form",
            "annotation/labellers",
            "annotation/remarks",
            "data/row_validation",
            "encoding/encoder",
            "evaluation/completion_file",
        ),
        *(
            "evaluation/completions",
            "evaluation/report_inputs",
            "models/references/reference_cache",
            "judges/language_judge",
        ),
        *("judges/win_rates", "models/state_cache"),
    },
    "requests, and replies as a server or a model gave them": {
        *(
            "judges/model_backend",
            "judges/connection",
            "sampling/wire",
            "rounds/round_store",
            "annotation/annotation_store",
        ),
    },
    "texts that are put into prompts, templates, words of a command": {
        *(
            "cli/model_options",
            "cli/typed_words",
            "cli/class_paths",
            *("data/turns", "data/tool_schemas", "data/turn_parts"),
            "encoding/chat_template",
            "encoding/jinja",
            *("encoding/program", "encoding/written"),
        ),
        *("judges/rubric", "records/example", "cli/schema"),
    },
    "notes of this program to itself": {
        *(
            "cli/run_folder",
            "studies/records",
            "studies/tasks",
            "studies/files_read",
            "data/encoded",
            "data/once",
            "models/stage",
            "training/checkpoint_io",
        ),
        "rewards/ensemble",
    },
    "settings of a model folder, as transformers and PEFT write them": {
        *("models/model_export", "models/model_soup", "models/condition_file", "models/reward_file"),
    },
}
"""Modules that call `json.dumps` for something that is no file of results."""


def strict(text: str) -> Any:
    """Read JSON as strict readers do."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_are_not_finite_are_null() -> None:
    found = {"a": math.nan, "b": [1.5, math.inf, (np.float64("nan"), "NaN")], "c": {"d": -math.inf, "e": 2}}
    assert strict(json_text(found)) == {"a": None, "b": [1.5, None, [None, "NaN"]], "c": {"d": None, "e": 2}}
    assert math.isnan(number(None))
    assert number(3) == 3.0


def test_whoever_writes_json_writes_it_strictly() -> None:
    exempt = {f"align/{module}.py" for modules in NO_RESULTS.values() for module in modules}
    loose = set()
    for path in FILES:
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            told = ast.unparse(call.func)
            if told in ("json.dump", "json.dumps", "dumps") and "allow_nan=False" not in ast.unparse(call):
                loose.add(str(path.relative_to(ROOT)))
    assert loose - exempt == set(), "write results by align.strict_json.json_text"
    assert exempt - loose == set(), "no longer calls json.dumps: take it off the list"


def test_what_was_null_is_read_as_nan(tmp_path: Path) -> None:
    append(tmp_path / "metrics.jsonl", {"step": 1, "loss": math.nan})
    strict((tmp_path / "metrics.jsonl").read_text())
    assert math.isnan(read_numbers(tmp_path / "metrics.jsonl")["loss"][1])
    front = Front("m", ("a", "b"), (Point("as it is"),), np.array([[[math.nan, 1.0]]]))
    write_front(front, tmp_path / "front.json")
    strict((tmp_path / "front.json").read_text())
    np.testing.assert_array_equal(read_front(tmp_path / "front.json").rewards, front.rewards)
    write_json(str(tmp_path / "out.json"), {"rate": math.nan})
    assert strict((tmp_path / "out.json").read_text()) == {"rate": None}


def test_commands_over_dialogues_that_no_reward_model_could_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit of two tokens leaves nothing to read, so every reward is undefined."""
    save_tiny(tmp_path / "model", template=TEMPLATE, initializer_range=0.7)
    save_reward_model(tmp_path / "rm")
    lines(tmp_path / "p.jsonl", [{"prompt": f"Tell me {n}", "completion": "c"} for n in range(3)])
    unread = ("--reward_tokens", "2")
    words = ["evaluate", "--models", "[model]", "--prompts", "p.jsonl", "--rewards", "[rm]", *unread, "--out", "out"]
    assert main([*words, "--sampling.generation.max_new_tokens", "4"]) == 0
    strict(Path("out/evaluation.json").read_text())
    level = read_evaluation(Path("out/evaluation.json")).models["model"]["0.0"]
    assert all(math.isnan(value) for value in (*level.per_prompt["rm"], level.rewards["rm"]["total"].value))
    grid = json.dumps({"template": "Hi {value}", "values": ["a", "b"]})
    probe = [
        "benchmark",
        "probe",
        "--model.path",
        "model",
        "--grid",
        grid,
        "--rewards.rm",
        "rm",
        *unread,
        "--out",
        "probe.json",
    ]
    assert main([*probe, "--generation.max_new_tokens", "4", "--generation.num_samples", "1"]) == 0
    effects = strict(Path("probe.json").read_text())["effects"]
    assert next(e["mean"] for e in effects if e["measure"] == "rm") == [None, None, None]
