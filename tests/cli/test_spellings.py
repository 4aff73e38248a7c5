"""Settings under the names that other verbs have for them are refused with the spelling of this one."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from align.cli.main import main
from align.cli.spellings import INSTEAD


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("rank --data x --out y --rewards [a,b]", "--rewards: it ranks by one reward model, --reward DIR"),
        ("benchmark mt-bench --questions x --models.a DIR", "--answers mt_bench"),
        ("benchmark alpaca-eval --model.path DIR", "--answers alpaca_eval"),
        ("benchmark mt-bench --questions x --judge LanguageJudge", "--responder Endpoint"),
        ("evaluate --model.path DIR --prompts x", "--models [DIR]"),
        ("evaluate --models DIR --prompts x", "expected dict or list, got 'DIR': write [DIR], or {NAME: DIR}"),
        (
            "evaluate --models.a.path x --models.a.under middling --prompts x",
            "--models.a.under: expected positive or negative",
        ),
        ("directions --models.help x --prompts x", "did you mean 'model"),
    ],
)
def test_a_setting_of_another_verb_is_told(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    told = capsys.readouterr().err.strip()
    assert line in told
    assert told.count("\n") == 0


@pytest.mark.parametrize("verb", INSTEAD)
def test_what_is_told_are_no_settings_of_the_verb(verb: str) -> None:
    """A verb that takes such a setting some day must not refuse it, and one that is gone must not be told."""
    names = verb.replace("-", "_").split()
    function = getattr(import_module(f"align.cli.{'_'.join(names)}"), names[-1])
    assert not set(INSTEAD[verb]) & set(inspect.signature(function).parameters)
