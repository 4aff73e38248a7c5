"""Scores of a round's samples: what has none yet is scored, committed as it goes."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_warn

from align.records import Example
from align.rewards.reward_model_reading import refuse_not_finite
from align.rewards.scorers import Scorer
from align.rounds.plan import RoundPlan
from align.rounds.round_store import RoundStore, StoredSample

SCORED_TOGETHER = 256
"""Samples whose rewards are committed at a time."""


def score_missing(store: RoundStore, plan: RoundPlan) -> None:
    """Score what has no score yet, committing as it goes; equal responses to a prompt are scored once.

    A scorer that compares gets all samples of a prompt at once, each as often as it was drawn.
    """
    if count := store.forget_scores(plan.number, plan.settings.scorer.identity):
        rank_zero_warn(f"round {plan.number}: {count} scores by another version of the scorer are made anew")
    if plan.settings.scorer.compares:
        _score_together(store, plan)
        return
    scorer, examples = plan.settings.scorer, {p.request.id: p.example for p in plan.prompts}
    samples = store.samples(plan.number)
    known = {(examples[s.prompt].id, s.text): s.scores for s in samples if s.scores is not None}
    left = [s for s in samples if s.scores is None]
    for first in range(0, len(left), SCORED_TOGETHER):
        part = left[first : first + SCORED_TOGETHER]
        new = {(e.id, s.text): e for s in part if (e := examples[s.prompt]) and (e.id, s.text) not in known}
        if new:
            rows = _scores(plan.settings.scorer, list(new.values()), [text for _, text in new])
            known |= dict(zip(new, rows, strict=True))
        scored = [s._replace(scores=known[examples[s.prompt].id, s.text]) for s in part]
        store.add_scores(plan.number, scored, scorer.identity)


def _score_together(store: RoundStore, plan: RoundPlan) -> None:
    """Score the samples of whole prompts, several prompts at a time; a judge keeps its replies itself."""
    examples, by_prompt = {p.request.id: p.example for p in plan.prompts}, dict[str, list[StoredSample]]()
    for sample in store.samples(plan.number):
        by_prompt.setdefault(examples[sample.prompt].id, []).append(sample)
    left = [group for group in by_prompt.values() if any(s.scores is None for s in group)]
    while left:
        part: list[StoredSample] = []
        while left and (not part or len(part) + len(left[0]) <= SCORED_TOGETHER):
            part += left.pop(0)
        rows = _scores(plan.settings.scorer, [examples[s.prompt] for s in part], [s.text for s in part])
        scored = [s._replace(scores=row) for s, row in zip(part, rows, strict=True)]
        store.add_scores(plan.number, scored, plan.settings.scorer.identity)


def _scores(scorer: Scorer, examples: Sequence[Example], texts: Sequence[str]) -> list[tuple[float, ...]]:
    """Return finite scores, or NaN where there is none."""
    scores = scorer.score_examples(examples, texts)
    infinite = scores.where(~scores.isnan(), scores.new_zeros(()))  # NaN says that there is no score
    refuse_not_finite(type(scorer).__name__, scorer.attributes, [e.messages for e in examples], infinite)
    return [tuple(row) for row in scores.tolist()]
