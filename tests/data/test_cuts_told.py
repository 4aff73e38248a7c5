"""What limits on prompts and responses cut is told where it is more than a few groups, with the setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from align.data.encoding import EncodingConfig
from align.data.splits import Splits
from align.encoding.truncation import PRESETS, Truncation
from tests.data.test_module import connected, needs

ROWS = 20


def _told(tmp_path: Path, prompts: list[int], chosen: int, truncation: Any, **more: Any) -> list[str]:
    """Return the warnings on pairs whose prompts and chosen responses have so many words."""
    rows = [
        {"prompt": f"{n} " + "why " * length, "chosen": "yes " * chosen + str(n), "rejected": f"no {n}"}
        for n, length in enumerate(prompts)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    encoding = EncodingConfig(truncation=truncation, template="plain")
    need = needs(limit=4096)
    vars(need).update(more)
    data = connected(path, need, encoding=encoding, splits=Splits(0))
    return next(report for name, report in data.reports.items() if name.endswith("/train")).warnings


def test_prompts_that_are_cut_though_they_would_fit(tmp_path: Path) -> None:
    limits = Truncation(max_prompt=40, max_total=4000, long_prompt="cut", at_turn=False)
    [told] = _told(tmp_path, [400] * 5 + [1] * (ROWS - 5), 1, limits)
    assert told == (
        "25.0% of the groups have a prompt of which the last 40 tokens are kept: "
        "data.encoding.truncation.max_prompt sets it"
    )
    assert _told(tmp_path, [400] + [1] * (ROWS - 1), 1, limits) == []


def test_responses_that_are_cut_though_they_would_fit(tmp_path: Path) -> None:
    [told] = _told(tmp_path, [1] * ROWS, 30, Truncation(max_total=4000, max_response=8))
    assert told.startswith("100.0% of the groups have a response of which the first 8 tokens are kept: max_response")
    [told] = _told(tmp_path, [1] * ROWS, 30, Truncation(max_total=4000), max_response=9)
    assert "the first 9 tokens are kept: max_response, of model.reading or" in told
    assert _told(tmp_path, [1] * ROWS, 0, Truncation(max_total=4000, max_response=20)) == []


def test_what_is_too_long_as_a_whole_is_told_once(tmp_path: Path) -> None:
    [told] = _told(tmp_path, [400] * ROWS, 1, Truncation(max_prompt=40, max_total=50, long_prompt="cut", at_turn=False))
    assert told.startswith("100.0% of the groups are longer than 50 tokens and are cut")


def test_the_presets_that_cut_what_would_fit() -> None:
    assert {name for name, limits in PRESETS.items() if limits.cuts_short} == {"pro"}
