"""How often the best classifier there is agrees with the labels of the held-out pairs, which are drawn with noise."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from align.data.source import Report
from align.data.synthetic import Synthetic
from align.world.gold_rewards import Gold, User
from align.world.preferences import Preferences


def bayes_accuracy(seed: int, held_out: int) -> float:
    """Return the Bayes accuracy of the labels of the validation split."""
    preferences = Preferences(held_out_size=held_out, seed=seed)
    golds = [[User().reward(Gold(*s)) for s in e.scores] for e in Synthetic(preferences).read("val", Report())]
    return preferences.bayes_accuracy(a - b for a, b in golds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--held_out", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"bayes": bayes_accuracy(given.seed, given.held_out)}))
