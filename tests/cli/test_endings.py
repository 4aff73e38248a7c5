"""What a run says of itself: what ended it, rows that are lost, and how many rows a mean is over."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from align.cli.main import main
from align.data.source import Report
from align.data.telling import FEW, warning, warnings_of
from tests.test_configs import scalars


def told(words: list[str]) -> list[str]:
    """Return what the first process of a run says."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addHandler(handler)
    try:
        assert main(words) == 0
    finally:
        logger.removeHandler(handler)
    return lines


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--trainer.max_steps", "1"], "fit ended after 1 steps: --trainer.max_steps 1"),
        (["--trainer.max_epochs", "1"], "--trainer.max_epochs 1"),
        (["--trainer.max_epochs", "1", "--trainer.max_steps", "900"], "--trainer.max_epochs 1"),
    ],
)
def test_the_setting_that_ended_the_run(words: list[str], reason: str, fit_words: list[str]) -> None:
    lines = told([*fit_words, *words])
    (ended,) = [line for line in lines if line.startswith("fit ended")]
    assert ended.endswith(reason)
    assert not any("stopped:" in line for line in lines)


def test_rows_lost_and_a_validation_split_of_few_rows(fit_words: list[str], tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{n}?", "chosen": "yes", "rejected": "no", "margin": n % 8 == 0} for n in range(80)]
    path = tmp_path / "tied.jsonl"
    path.write_text("".join(json.dumps({**row, "margin": float(row["margin"])}) + "\n" for row in rows))
    run = ["--data.path", str(path), "--data.splits.val_fraction", "0.4", "--trainer.default_root_dir", "run"]
    lines = told([*fit_words, *run])
    warned = [line for line in lines if line.startswith("WARNING data")]
    assert len(warned) == 3
    assert all("tied responses" in line for line in warned[:2])
    kept = scalars(Path("run"), "val/rows")
    assert f"means over {int(kept[-1])} row" in warned[2]
    assert f"| val/rows | {int(kept[-1])} |" in Path("run/model/README.md").read_text()


def test_what_is_lost() -> None:
    """Half of the rows is no warning, more is; rows beyond a limit of the user's are not lost."""
    report = Report(read=8)
    for _ in range(4):
        report.drop("tied responses", "x")
    report.dropped["beyond max_samples"] = 3
    assert warning(report) is None
    report.drop("no ranking", "x")
    assert warning(report) == "only 3 of 8 rows are used: 4 tied responses, 1 no ranking"
    few = warnings_of({}, {"train": range(9), "val": range(1)})
    more = "raise data.splits.val_fraction, or give validation more rows of its own"
    assert few == [f"data: val/* are means over 1 row only, which say little: {more}"]
    assert warnings_of({}, {"val": range(FEW)}) == warnings_of({}, {"train": range(3)}) == []
