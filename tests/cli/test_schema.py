"""The JSON schema for editors, and the script for the shell."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from align.cli.main import main
from align.cli.parsers import command_parser
from align.cli.schema import for_fragments
from tests.cli.conftest import told

__all__ = ["told"]


def test_a_schema_is_loosened_for_fragments() -> None:
    made: dict[str, Any] = {
        "type": "object",
        "required": ["model"],
        "properties": {
            "required": {"type": "integer"},
            "model": {
                "required": ["class_path"],
                "properties": {"class_path": {"const": "align.records.WeightedRating"}, "init_args": {}},
            },
            "callbacks": {"anyOf": [{"type": "null"}, {"type": "array"}]},
        },
    }
    found = for_fragments(made)
    assert "required" not in found
    assert found["properties"]["required"] == {"type": "integer"}
    names = found["properties"]["model"]["properties"]["class_path"]["enum"]
    assert names == ["align.records.WeightedRating", "align.records.conditions.WeightedRating", "WeightedRating"]
    assert found["properties"]["callbacks+"] == made["properties"]["callbacks"]


def test_the_schema_of_a_function(told, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "data", "read"]) == 0
    text = capsys.readouterr().out
    assert '"ignore_columns+"' in text
    assert '"split"' in text
    assert "did you mean 'data read'" in told("schema", "data", "reed")


def test_parsers_of_fit_are_there_without_a_run() -> None:
    options = command_parser(("fit",))._option_string_actions
    assert {"--model", "--data", "--trainer.max_epochs", "--check"} <= set(options)
    assert "--check" in command_parser(("check",))._option_string_actions


def test_completion_without_its_library(told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'align-lm[completion]'" in told("completion", "bash")


@pytest.mark.slow
def test_every_shipped_config_is_of_the_schema() -> None:
    """As a validator of editors reads them; one class misspelt is found."""
    import json

    from jsonargparse import get_loader

    from tests.test_configs import CONFIGS

    jsonschema = pytest.importorskip("jsonschema")
    text = command_parser(("fit",)).get_completion_script("jsonschema")
    validator = jsonschema.Draft202012Validator(for_fragments(json.loads(text)))
    read = get_loader("yaml")
    for path in CONFIGS:
        assert validator.is_valid(read(path.read_text(encoding="utf-8"))), path
    assert not validator.is_valid({"model": {"class_path": "DPOModul"}})
    assert not validator.is_valid({"model": {"class_path": "DPOModule", "init_args": {"objectiv": 1}}})
    assert not validator.is_valid({"trainer": {"max_epoch": 1}})


@pytest.mark.slow
def test_the_shell_completes_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "--coefficients" in script
    assert "data world" in script.replace("_", " ")
    for words, found in (("fit -c dp", {"dpo", "dpo_cached"}), ("fit -c recipe/qwen3_8", {"recipe/qwen3_8b"})):
        asked = f"COMP_WORDS=(align {words}); COMP_CWORD=3; _shtab_align; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        run = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=True)
        assert found <= set(run.stdout.split())
