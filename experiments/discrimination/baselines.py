"""Two baselines on a fold: a bag of words, which is trained on the other folds, and the length of a response."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from align.data.drop_report import Report
from align.data.preference_file import PreferenceFileDataModule
from align.data.row_validation import prompt_id
from align.data.splits import Splits
from align.data.views import RankedLists
from align.evaluation.preference_ranking import RankedRow, measure_rows
from align.records import Example
from align.strict_json import json_text


def main(path: str, fold: str, out: str) -> None:
    """Write the rewards of both on the rows of a fold, as `align benchmark preferences` does."""
    data = PreferenceFileDataModule(path, splits=Splits(val_fraction=0, folds=5, fold=int(fold)))
    train, test = (RankedLists().apply(data.examples(split), Report()) for split in ("train", "test"))
    words, weights = bag_of_words(train)
    lines, rows = [], []
    for example in test:
        own = (words.transform(example.responses) @ weights).tolist()
        rewards = {"bag of words": own, "shorter is better": [-float(len(text)) for text in example.responses]}
        row = RankedRow(example.id, prompt_id(example.messages), example.ranks, rewards)
        lines.append(json_text(row.as_dict()) + "\n")
        rows.append(row)
    Path(out).mkdir(parents=True, exist_ok=True)
    figures = {name: {"accuracy": {"value": float(measure_rows(rows, name)[:, 0].mean())}} for name in rewards}
    (Path(out) / "results.json").write_text(json_text({"models": figures}), encoding="utf-8")
    (Path(out) / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{path}, fold {fold}: trained on {len(train)} rows, {len(test)} held out")


def bag_of_words(examples: Sequence[Example]) -> tuple[TfidfVectorizer, np.ndarray]:
    """Return 1-2-grams and their weights, by a logistic regression on differences of the responses of ordered pairs."""
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    words.fit([text for example in examples for text in example.responses])
    differences = []
    for example in examples:
        table = words.transform(example.responses)
        ranks = example.ranks
        pairs = [(a, b) for a in range(len(ranks)) for b in range(len(ranks)) if ranks[a] < ranks[b]]
        differences += [table[a] - table[b] for a, b in pairs]
    rows = vstack(differences)
    model = LogisticRegression(C=1.0, fit_intercept=False, max_iter=1000)
    model.fit(vstack([rows, -rows]), np.repeat([1, 0], rows.shape[0]))
    return words, model.coef_[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
