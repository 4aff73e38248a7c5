"""Settings under the names that other verbs have for them are refused with the spelling of this one."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from align.cli.main import main
from align.cli.spellings import INSTEAD
from align.cli.verbs import module_of


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("data rank --data x --out y --reward a", "--reward: it ranks by one reward model, --rewards DIR"),
        ("benchmark mt-bench --questions x --models.a DIR", "--answers mt_bench"),
        ("benchmark alpaca-eval --model.path DIR", "--answers alpaca_eval"),
        ("benchmark mt-bench --questions x --judge LanguageJudge", "--responder Endpoint"),
        ("evaluate --model.path DIR --prompts x", "--models [DIR]"),
        ("evaluate --models DIR --prompts x", "data.path 'x': no such file"),
        ("data rank --data x --out y --rewards [a,b]", "rewards: one model ranks, got 2"),
        ("data rank --data x --out y --rewards a --max_tokens 3", "--max_tokens: it is --reward_tokens now"),
        ("front compare --models x --rewards [a,-b]", "are --attributes [helpfulness,-verbosity]"),
        ("steer export --steer x --out y --direction pca", "--direction: it is --vector now"),
        ("chat --model a --model_b b", "align chat MODEL [MODEL]"),
        (
            "evaluate --models.a.path x --models.a.under middling --prompts x",
            "--models.a.under: expected positive or negative",
        ),
        ("front measure --models.help x --prompts x", "did you mean 'model"),
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
    function = import_module(module_of(verb.split())).VERB.function
    assert not set(INSTEAD[verb]) & set(inspect.signature(function).parameters)
