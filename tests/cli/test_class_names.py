"""Names of classes in the wrong place: what is said, and which are offered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from align.cli.class_takers import takers

WORDS = ("fit", "--data", "HHRLHFDataModule", "--data.path", "x")


@pytest.mark.parametrize("word", ["AlignModul", "align.training.base_module.AlignModule"])
def test_bases_are_not_offered(word: str, told: Callable[..., str]) -> None:
    line = told(*WORDS, "--model", word)
    assert "known: DPARSFModule, DPOModule, GroupPolicyModule, HIRModule" in line
    assert "RecordingModule" not in line
    assert "'AlignModule'" not in line


@pytest.mark.parametrize(
    ("word", "owners"),
    [
        ("align.objectives.pairwise.DPO", ["DPOModule", "XPOModule"]),
        ("DPO", ["DPOModule", "XPOModule"]),
        ("PRO", ["PROModule"]),
        ("align.modules.pro.PROModule", []),
        ("torch.nn.Linear", []),
        ("nothing.there", []),
    ],
)
def test_takers(word: str, owners: list[str]) -> None:
    assert takers(word) == owners


def test_scorers_of_the_judges_are_known_where_nothing_else_is_imported() -> None:
    """Found by hand: `--scorer LanguageModelScorer` was no class but in tests, which had imported it."""
    words = ["-m", "align", "data", "rank", "--data", "x", "--out", "y", "--scorer", "Nothing"]
    ran = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 2
    known = ran.stderr.partition("known: ")[2]
    assert {"LanguageModelScorer", "RubricScorer", "WinRates", "YesProbability"} <= set(known.rstrip(")\n").split(", "))


@pytest.mark.parametrize(
    "command",
    [
        ["data", "rank", "--data", "x", "--out", "y", "--scorer", "LanguageModelScorer", "--scorer"],
        ["evaluate", "--models", "[x]", "--prompts", "p", "--judge", "LanguageJudge", "--judge"],
    ],
)
def test_a_setting_two_classes_deep_is_told_of_its_own_class(command: list[str], told: Callable[..., str]) -> None:
    *words, option = command
    named = [
        f"{option}.responder",
        "Endpoint",
        f"{option}.responder.base_url",
        "http://localhost",
        f"{option}.responder.model",
        "m",
    ]
    line = told(*words, *named, f"{option}.responder.max_new_tokens", "8")
    verb = " ".join(words[: 2 if words[0] == "data" else 1])
    assert line == (
        f"align {verb}: unknown setting {option}.responder.max_new_tokens of Endpoint, did you mean 'max_tokens'?: "
        f"see align {verb} --help"
    )
