"""Write each arm's setting that gained most over the base at equal KL in the search.

    python choose.py SEARCH FOLDER

reads SEARCH/searched/table.json and writes FOLDER/ARM.yaml, settings of a run, and FOLDER/results.json, what was tried.
A setting whose KL no temperature of the base reaches has gone too far; where all of an arm have, the one with the
highest reward is taken.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

PLACES = {
    "rate": "optimizer: {{learning_rate: {}}}",
    "alpha": "objective: {{alpha: {}}}",
}
"""Where a setting stands in a run's file, by its name in the search."""


def main(search: Path, folder: Path) -> None:
    """Choose, arm by arm."""
    rows = json.loads((search / "searched" / "table.json").read_text(encoding="utf-8"))["rows"]
    found: dict[str, dict[str, Any]] = {}
    for title, row in rows.items():
        arm, _, setting = title.partition(", ")
        found.setdefault(arm, {})[setting] = row
    for arm, tried in found.items():
        name, _, value = max(tried, key=lambda one: worth(tried[one])).partition("=")
        text = f"# By choose.py.\nmodel:\n  init_args:\n    {PLACES[name].format(f'{float(value):.10f}'.rstrip('0'))}\n"
        (folder / f"{arm}.yaml").write_text(text, encoding="utf-8")
        print(f"{arm}: {name} {value} of {', '.join(one.partition('=')[2] for one in tried)}")
    (folder / "results.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def worth(row: dict[str, Any]) -> tuple[float, float]:
    """Return the gain at equal KL, minus infinity where there is none; then the reward."""
    gain = row["gain at equal KL"]["mean"]
    return -math.inf if gain is None else gain, row["T = 1"]["mean"]


if __name__ == "__main__":
    place, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    main(place, out)
