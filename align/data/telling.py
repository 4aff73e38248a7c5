"""What a run says about its data before it starts, and what it warns of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized

from lightning.pytorch.utilities import rank_zero_info

from align.data.source import Report

FEW = 20
"""Validation rows below which means over them say little."""


def tell(reports: Mapping[str, Report], groups: Mapping[str, Sized], template: Sequence[str] = ()) -> None:
    """Say what a template does beyond the text and what became of the rows of every split, and warn."""
    for line in template:
        rank_zero_info(f"template: {line}")
    for name, report in reports.items():
        rank_zero_info(f"data {name}: {report}")
    for line in warnings_of(reports, groups):
        rank_zero_info(f"WARNING {line}")


def warning(report: Report) -> str | None:
    """Return a warning where more than half of the rows are lost; what a limit of the user's leaves out is not lost."""
    reasons = {reason: n for reason, n in report.dropped.most_common() if not reason.startswith("beyond ")}
    lost = sum(reasons.values())
    if lost * 2 <= report.read:
        return None
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return f"only {report.read - lost} of {report.read} rows are used: {told}"


def warnings_of(reports: Mapping[str, Report], groups: Mapping[str, Sized]) -> list[str]:
    """Return what is wrong with data though a run can go on: most rows lost, a validation split of a few rows."""
    lost = [f"data {name}: {told}" for name, report in reports.items() if (told := warning(report))]
    lost += [f"data {name}: {told}" for name, report in reports.items() for told in report.warnings]
    few = len(groups["val"]) if "val" in groups else FEW
    if few < FEW:
        rows = "row" if few == 1 else "rows"
        more = "raise data.splits.val_fraction, or give validation more rows of its own"
        lost.append(f"data: val/* are means over {few} {rows} only, which say little: {more}")
    return lost
