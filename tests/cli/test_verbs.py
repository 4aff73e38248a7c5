"""The family of verbs: listed, dispatched by one table, one spelling of models and rewards, old names told the new."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from align.cli import verbs
from align.cli.functions import FunctionVerb, parser_of
from align.cli.main import main
from align.cli.renamed import RENAMED_VERBS
from align.cli.spellings import INSTEAD
from align.cli.typed_words import listed_first, spelled
from tests.cli.conftest import told
from tests.tiny import write_pairs

__all__ = ["told"]
FUNCTIONS = [command for command in verbs.commands() if command[0] not in verbs.FIT_VERBS]


@pytest.mark.parametrize("command", FUNCTIONS, ids=" ".join)
def test_every_function_takes_config_files(command: tuple[str, ...]) -> None:
    verb = importlib.import_module(verbs.module_of(command)).VERB
    assert isinstance(verb, FunctionVerb)
    parser = parser_of(verb.function, " ".join(command), positional=verb.positional)
    assert "-c" in parser._option_string_actions


def test_the_tables_name_the_same_commands() -> None:
    known = {" ".join(command) for command in verbs.commands()}
    assert known >= verbs.LOADS_MODELS
    assert known >= set(RENAMED_VERBS.values()) | set(INSTEAD)
    assert not known & set(RENAMED_VERBS)
    assert set(verbs.GROUPS) <= set(verbs.LISTED)


@pytest.mark.parametrize("verb", RENAMED_VERBS)
def test_an_old_verb_is_told_the_new_one(told, verb: str) -> None:
    assert told(verb, "--help") == f"align {verb}: this verb is align {RENAMED_VERBS[verb]} now"
    assert f"this verb is align {RENAMED_VERBS[verb]} now" in told(verb)


@pytest.mark.parametrize("group", verbs.GROUPS)
def test_a_group_lists_its_verbs(told, group: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([group], [group, "--help"], [group, "-h"]):
        assert main(words) == 0
        page = capsys.readouterr().out
        assert all(f"  {name} " in page for name in verbs.GROUPS[group])
    assert f"unknown verb 'x': one of {', '.join(verbs.GROUPS[group])}" in told(group, "x")


def test_doctor_is_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--help"]) == main(["check", "--help"]) == 0
    first, second = capsys.readouterr().out.split("usage:")[1:]
    assert first == second


def several(models: list[str] | dict[str, str], *, plain: bool = False, rewards: list[str] | None = None) -> None:
    """Take several."""


@pytest.mark.parametrize(
    ("words", "models"),
    [
        (["--models", "a, b"], ["a, b"]),
        (["--models=a"], ["a"]),
        (["--models", "[a,b]"], ["a", "b"]),
        (["--models.x", "a", "--models.y", "b"], {"x": "a", "y": "b"}),
        (["--plain", "--models", "a"], ["a"]),
    ],
)
def test_models_are_spelled_in_one_way(words: list[str], models: object) -> None:
    parser = parser_of(several, "x")
    found = parser.parse_args(spelled(parser, words))
    given = found.models
    assert (given if isinstance(given, list) else vars(given) if not isinstance(given, dict) else given) == models
    assert found.plain is (words[0] == "--plain")
    assert parser.parse_args(spelled(parser, [*words, "--rewards", "null"])).rewards is None


def test_first_words_are_the_values_of_an_option() -> None:
    assert listed_first("--runs", ["a", "b", "--out", "c"]) == ["--runs", '["a", "b"]', "--out", "c"]
    assert listed_first("--runs", ["--runs", "a"]) == ["--runs", "a"]


def test_one_model_is_named_by_its_folder(told) -> None:
    assert "tokenizer nowhere: cannot be loaded" in told("generate", "--model", "nowhere", "--prompt", "x")
    assert "tokenizer nowhere: cannot be loaded" in told("generate", "--model=nowhere", "--prompt", "x")


def test_settings_of_a_function_may_stand_in_a_file(told, capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs(Path("pairs.jsonl"), 3)
    Path("own.yaml").write_text("split: val\n")
    assert "--split val: pairs.jsonl has train" in told("data", "read", "pairs.jsonl", "-c", "own.yaml")
    assert main(["data", "read", "pairs.jsonl", "-c", "own.yaml", "--split", "train"]) == 0
    assert "rows: 3 read, 3 kept" in capsys.readouterr().out
    Path("own.yaml").write_text("split: val\nsplit: test\n")
    assert "line 2: key 'split' stands twice" in told("data", "read", "pairs.jsonl", "-c", "own.yaml")
