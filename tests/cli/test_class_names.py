"""Names of classes in the wrong place: what is said, and which are offered."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from align.cli.class_takers import takers

WORDS = ("fit", "--data", "HHRLHFDataModule", "--data.path", "x")


@pytest.mark.parametrize("word", ["AlignModul", "align.training.base_module.AlignModule"])
def test_bases_are_not_offered(word: str, told: Callable[..., str]) -> None:
    line = told(*WORDS, "--model", word)
    assert "known: DPARSFModule, DPOModule, HIRModule" in line
    assert "RecordingModule" not in line
    assert "'AlignModule'" not in line


@pytest.mark.parametrize(
    ("word", "owners"),
    [
        ("align.objectives.pairwise.DPO", ["DPOModule"]),
        ("DPO", ["DPOModule"]),
        ("PRO", ["PROModule"]),
        ("align.modules.pro.PROModule", []),
        ("torch.nn.Linear", []),
        ("nothing.there", []),
    ],
)
def test_takers(word: str, owners: list[str]) -> None:
    assert takers(word) == owners
