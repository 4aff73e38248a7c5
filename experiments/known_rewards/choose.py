"""Each arm at the learning rate that reached most on the tuning prompts: links to its runs, one for each seed.

    python choose.py STUDY FOLDER ARM ...

reads STUDY/searched/table.json and writes FOLDER/chosen.json and FOLDER/ARM-SEED, the model of the run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(study: Path, folder: Path, arms: list[str]) -> None:
    """Choose by the mean over seeds of the mean reward."""
    rows = json.loads((study / "searched" / "table.json").read_text(encoding="utf-8"))["rows"]
    found = {}
    for arm in arms:
        means = {title.partition("=")[2]: row["reward"] for title, row in rows.items() if title.split(",")[0] == arm}
        rate = max(means, key=lambda one: means[one]["mean"])
        found[arm] = {"rate": float(rate), "tried": {one: figure["mean"] for one, figure in means.items()}}
        for seed in means[rate]["values"]:
            link = folder / f"{arm}-{seed}"
            link.unlink(missing_ok=True)
            link.symlink_to((study / f"{arm}-{rate}-{seed}" / "model").resolve(), target_is_directory=True)
    (folder / "chosen.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    place, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    main(place, out, sys.argv[3:])
