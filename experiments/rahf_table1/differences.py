"""Paired differences between runs as Markdown: rewards on the same prompts, over the seeds of the study.

An interval is a 95 % bootstrap over prompts, each the mean of its samples and seeds: it tells of prompts and samples,
not of seeds. python experiments/rahf_table1/differences.py runs/rahf_table1 OUT.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from align.evaluation.statistics import paired_difference

AGAINST = {"base": "base", "lorra": "LoRRA, a 5", "hir": "HIR", "good_bad": "good and bad", "sft": "SFT on chosen"}
Seeds = list[dict[str, Any]]


def by_prompt(seeds: Seeds, model: str) -> NDArray[np.float64]:
    """Return the reward of every prompt, averaged over its samples and over seeds."""
    found = [seed[model] for seed in seeds]
    samples = np.array([one["rewards"] for one in found]).reshape(len(found), -1, found[0]["per_prompt"])
    means: NDArray[np.float64] = samples.mean((0, 2))
    return means


def table(seeds: Seeds) -> str:
    """Return, for every run that aligns states, its reward less that of others."""
    lines = [f"| run | {' | '.join(f'minus {title}' for title in AGAINST.values())} |", f"|---|{'---|' * len(AGAINST)}"]
    for model in seeds[0]:
        if model.startswith(("dual", "scit")):
            found = [paired_difference(by_prompt(seeds, model), by_prompt(seeds, other)) for other in AGAINST]
            cells = [f"{one.value:+.2f} [{one.low:+.2f}, {one.high:+.2f}]" for one in found]
            lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    study, out = Path(sys.argv[1]), Path(sys.argv[2])
    shown = table([json.loads(path.read_text())["models"] for path in sorted(study.glob("gold-*/results.json"))])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(shown + "\n")
    print(shown)
