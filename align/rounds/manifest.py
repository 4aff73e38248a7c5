"""What a round was like, in numbers and a few samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from align.data.source import Report
from align.records import Example
from align.rounds.directional_selection import direction_metrics
from align.rounds.round_store import StoredSample
from align.rounds.scored_samples import PromptSamples, best_of

SHOWN = 3


def manifest(
    drawn: Sequence[PromptSamples],
    samples: Sequence[StoredSample],
    own: Sequence[Example],
    *,
    records: Sequence[Example],
    report: Report,
    seconds: float,
) -> dict[str, Any]:
    """Return plain values: metrics by the names they are logged under, counts of what was dropped, samples."""
    best = [best_of(d.candidates) for d in drawn]
    every = [c for d in drawn for c in d.candidates]
    mean, top = fmean(c.reward for c in every), fmean(c.reward for c in best)
    attributes = drawn[0].attributes if drawn else ()
    metrics = {
        "reward": mean,
        "reward_best": top,
        "gain": top - mean,
        "length": fmean(len(s.ids) or len(s.text.split()) for s in samples),
        "finished": fmean(s.finish != "length" for s in samples),
        "unique": fmean(len(d.distinct()) / len(d.candidates) for d in drawn),
        "acceptance": len(givers(own)) / max(report.read, 1),
        "replay": 1 - len(own) / len(records),
    }
    known = {name: [c.scores[i] for c in every if not math.isnan(c.scores[i])] for i, name in enumerate(attributes)}
    scores = {name: fmean(found) for name, found in known.items() if found}  # what weighs nothing may be missing
    metrics |= {f"{name}_score" if name in metrics else name: value for name, value in scores.items()}
    metrics |= direction_metrics(own)
    shown = [
        {"prompt": d.example.messages[-1].content, "best": b.text, "reward": b.reward}
        for d, b in list(zip(drawn, best, strict=True))[:SHOWN]
    ]
    counts = {"prompts": report.read, "samples": len(samples), "records": len(records), "own": len(own)}
    dropped = dict(report.dropped)
    return {"metrics": metrics, "counts": counts, "dropped": dropped, "shown": shown, "seconds": round(seconds, 3)}


def givers(records: Sequence[Example]) -> set[str]:
    """Return the ids of the prompts that gave records."""
    return {e.id.rsplit("@", 1)[0] for e in records}


def summary(told: dict[str, Any]) -> str:
    """Return a manifest in a few words."""
    counts, metrics = told["counts"], told["metrics"]
    waited = f", {metrics['waited']:.1f} s waited for samples" if "waited" in metrics else ""
    return (
        f"{counts['samples']} samples of {counts['prompts']} prompts, reward {metrics['reward']:.3f}, best "
        f"{metrics['reward_best']:.3f}, {counts['records']} records{waited}"
    )
