"""Scores of a round's samples: what has none yet is scored, committed as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from lightning.pytorch.utilities import rank_zero_warn

from align.distributed import on_all, on_first, rank, world_size
from align.errors import ModelError
from align.models.in_step import in_step
from align.records import Example
from align.rewards.reward_model_reading import refuse_not_finite
from align.rewards.scorers import Scorer
from align.rounds.plan import RoundPlan
from align.rounds.round_folder import RoundFolder
from align.rounds.round_store import RoundStore, StoredSample

Key = tuple[str, str]
"""Id of the prompt's record, and the response."""


def score_missing(rounds: RoundFolder, plan: RoundPlan) -> None:
    """Score what has no score yet, committing as it goes; equal responses to a prompt are scored once.

    A scorer that compares gets all samples of a prompt at once, each as often as it was drawn. Every process calls;
    each scores a part where the scorer can be asked by several, and an error of one ends all.
    """
    scorer = plan.settings.scorer
    _refresh(scorer)
    if count := on_first(lambda: rounds.store.forget_scores(plan.number, scorer.identity)):
        rank_zero_warn(f"round {plan.number}: {count} scores by another version of the scorer are made anew")
    if scorer.compares:
        on_all(lambda: _score_on_first(rounds, plan))
        return
    examples = {p.request.id: p.example for p in plan.prompts}
    samples = [s for s in on_first(lambda: rounds.store.samples(plan.number)) if s.prompt in examples]
    known = {(examples[s.prompt].id, s.text): s.scores for s in samples if s.scores is not None}
    left = [s for s in samples if s.scores is None]
    parts = world_size() if scorer.shares else 1
    together = scorer.together * parts
    for first in range(0, len(left), together):
        part = left[first : first + together]
        new = {(e.id, s.text): e for s in part if (e := examples[s.prompt]) and (e.id, s.text) not in known}
        known |= _scored(plan, new, parts)
        scored = [s._replace(scores=known[examples[s.prompt].id, s.text]) for s in part]
        on_first(lambda scored=scored: rounds.store.add_scores(plan.number, scored, scorer.identity))  # type: ignore[misc]


def tell_other_scorer(rounds: RoundFolder, plan: RoundPlan) -> None:
    """Tell of a round that is scored by another version of the scorer than the one before, as after a function's edit.

    A judge that is the model being trained is another one in every round.
    """
    scorer, before = plan.settings.scorer, on_first(lambda: rounds.store.scored_by(plan.number - 1))
    if before not in (None, scorer.identity) and not scorer.asks_trained:
        rank_zero_warn(
            f"round {plan.number} is scored by another version of the scorer than round {plan.number - 1}: rewards "
            "from here on are not those of before"
        )


def _refresh(scorer: Scorer) -> None:
    """Let whoever scores read what was replaced. Raises ModelError where processes read different models."""

    def refreshed() -> str:
        scorer.refresh()
        return scorer.identity

    found = set(on_all(refreshed)) if scorer.shares and not scorer.compares else {on_first(refreshed)}
    if len(found) > 1:
        raise ModelError("the reward model was replaced while it was read: give the same command again")


def _scored(plan: RoundPlan, new: dict[Key, Example], parts: int) -> dict[Key, tuple[float, ...]]:
    """Return the scores of responses, of which each of so many processes computes a part."""
    scorer = plan.settings.scorer

    def own() -> dict[Key, tuple[float, ...]]:
        keys = list(new)[rank() :: parts] if rank() < parts else []
        with _beside(plan):
            rows = _scores(scorer, [new[key] for key in keys], [text for _, text in keys]) if keys else []
        return dict(zip(keys, rows, strict=True))

    return {key: row for found in on_all(own) for key, row in found.items()}


def _beside(plan: RoundPlan) -> AbstractContextManager[None]:
    """Return the context in which a sharded policy answers one process while the others call it beside that one."""
    return in_step(plan.settings.scorer.live, whole=plan.settings.whole_weights)


def _score_on_first(rounds: RoundFolder, plan: RoundPlan) -> None:
    with _beside(plan):
        if rank() == 0:
            _score_together(rounds.store, plan)


def _score_together(store: RoundStore, plan: RoundPlan) -> None:
    """Score the samples of whole prompts, several prompts at a time; a judge keeps its replies itself."""
    examples, by_prompt = {p.request.id: p.example for p in plan.prompts}, dict[str, list[StoredSample]]()
    for sample in (s for s in store.samples(plan.number) if s.prompt in examples):
        by_prompt.setdefault(examples[sample.prompt].id, []).append(sample)
    left = [group for group in by_prompt.values() if any(s.scores is None for s in group)]
    while left:
        part: list[StoredSample] = []
        while left and (not part or len(part) + len(left[0]) <= plan.settings.scorer.together):
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
