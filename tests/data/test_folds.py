"""Cross-validation: every prompt is held out once, by the same folds in any process, and by no other data's account."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.data.preference_file import PreferenceFileDataModule
from align.data.splits import Splits
from align.errors import ConfigError
from tests.data.test_module import connected
from tests.tiny import write_pairs


def held_out(path: Path, fold: int, **options: float) -> dict[str, set[str]]:
    data = PreferenceFileDataModule(str(path), splits=Splits(folds=5, fold=fold, **options))
    return {split: {e.id for e in data.examples(split)} for split in ("train", "val", "test")}


def test_every_prompt_is_held_out_once(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl", 400)
    found = [held_out(path, fold, val_fraction=0.1) for fold in range(5)]
    everything = {e.id for e in PreferenceFileDataModule(str(path), splits=Splits(0)).examples("train")}
    assert sum(len(part["test"]) for part in found) == len(everything)
    assert set.union(*(part["test"] for part in found)) == everything
    for part in found:
        assert part["train"] | part["val"] | part["test"] == everything
        assert not part["test"] & (part["train"] | part["val"])
        assert 50 < len(part["test"]) < 110  # 80, by a binomial draw with deviation 8
        assert 10 < len(part["val"]) < 60


def test_rows_of_a_prompt_stay_together_and_more_data_move_none(tmp_path: Path) -> None:
    few = write_pairs(tmp_path / "few.jsonl", 60)
    more = tmp_path / "more.jsonl"
    more.write_text(few.read_text() * 2 + write_pairs(tmp_path / "x.jsonl", 60, seed=1).read_text())
    prompts = [
        {e.messages for e in PreferenceFileDataModule(str(path), splits=Splits(folds=3, fold=1)).examples("test")}
        for path in (few, more)
    ]
    assert prompts[0] <= prompts[1]


def test_the_fold_is_part_of_what_a_checkpoint_knows_of_its_data(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl", 60)
    ways = [{}, {"folds": 3, "fold": 0}, {"folds": 3, "fold": 1}, {"folds": 4, "fold": 0}]
    assert len({connected(path, splits=Splits(**way)).fingerprint for way in ways}) == len(ways)


def test_without_folds_splits_are_called_what_they_were() -> None:
    """Runs that were begun before there were folds know their data by this text, and go on."""
    assert repr(Splits(0.1)) == "Splits(val_fraction=0.1, test_fraction=0.0, seed=0, half='all')"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"folds": 5}, "cross-validation needs both"),
        ({"fold": 0}, "cross-validation needs both"),
        ({"folds": 1, "fold": 0}, "expected 2 folds or more"),
        ({"folds": 5, "fold": 5}, "expected 2 folds or more, and one of 0 to folds - 1"),
        ({"folds": 5, "fold": -1}, "expected 2 folds or more"),
        ({"folds": 5, "fold": 0, "test_fraction": 0.1}, "is the test split"),
    ],
)
def test_impossible_folds_are_refused(given: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Splits(**given)


@pytest.mark.bad_input
def test_a_test_split_that_is_shipped_stays_the_test_split(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train", "test"):
        write_pairs(folder / f"{name}.jsonl", 20)
    with pytest.raises(ConfigError, match="ships a test split"):
        connected(folder, splits=Splits(folds=5, fold=0))
