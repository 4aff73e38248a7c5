"""Write each arm's learning rate that came nearest to the optimum in the search.

    python choose.py SEARCH FOLDER

reads SEARCH/searched/table.json and writes FOLDER/ARM.yaml, settings of a run, and FOLDER/results.json, what was tried.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(search: Path, folder: Path) -> None:
    """Choose, arm by arm."""
    rows = json.loads((search / "searched" / "table.json").read_text(encoding="utf-8"))["rows"]
    found: dict[str, dict[str, Any]] = {}
    for title, row in rows.items():
        arm, _, setting = title.partition(", rate=")
        found.setdefault(arm, {})[setting] = row
    folder.mkdir(parents=True, exist_ok=True)
    for arm, tried in found.items():
        rate = max(tried, key=lambda one: float(tried[one]["share"]["mean"]))
        written = f"{float(rate):.10f}".rstrip("0")
        text = f"# By choose.py.\nmodel:\n  init_args:\n    optimizer: {{learning_rate: {written}}}\n"
        (folder / f"{arm}.yaml").write_text(text, encoding="utf-8")
        print(f"{arm}: rate {rate} of {', '.join(tried)}")
    (folder / "results.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
