"""Makes one round: samples what is missing, scores what is missing, selects, writes, seals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from lightning.pytorch.utilities import rank_zero_info

from align.distributed import on_all, on_first, rank, world_size
from align.records import Example
from align.rounds.plan import RoundPlan
from align.rounds.prompt_supply import Taken
from align.rounds.round_folder import RoundFolder
from align.rounds.round_store import RoundRow, StoredSample
from align.rounds.sample_scores import score_missing, tell_other_scorer
from align.rounds.sealing import fruitful, seal
from align.sampling.engine import Engine
from align.sampling.generation import Sample
from align.sampling.sampler import Batch, Sampler, SamplingProgress

Further = Callable[[RoundPlan, int], Taken]
"""Gives so many prompts behind those of a plan."""


def make_round(
    rounds: RoundFolder,
    plan: RoundPlan,
    data: Sequence[Example],
    engine: Engine | None,
    further: Further,
    *,
    waited: float = 0.0,
) -> RoundRow:
    """Make a round that is not sealed, or finish it, and return it sealed; every process calls.

    Args:
        rounds: Where the run keeps its rounds.
        plan: What decides the round.
        data: Records that replay draws from.
        engine: Draws the samples, with the plan's weights; null takes the data's own responses.
        further: Gives prompts in the place of those that give no record.
        waited: Seconds that were waited for samples before; of a run whose rounds are drawn ahead.

    Raises:
        ResumeError: where the round was begun with other weights or settings.
        DataError: where it gives nothing to train on.
    """
    known = {(s.prompt, s.number) for s in rounds.begin(plan.number, plan.policy, plan.fingerprint)}
    began, measured = time.perf_counter(), dict[str, float]()
    if engine is None:
        on_first(lambda: _take(rounds, plan))
    else:
        _draw(rounds, plan, known, engine)
    seconds = time.perf_counter() - began

    score_missing(rounds, plan)
    tell_other_scorer(rounds, plan)
    if engine is not None:
        plan = _refilled(rounds, plan, known, engine, further)
        measured = engine.measured()
    if plan.ahead or plan.settings.ahead:
        measured |= {"stale": float(plan.ahead), "waited": waited + seconds}
    return on_first(lambda: seal(rounds, plan, data, own=engine is None, seconds=seconds, measured=measured))


def _refilled(
    rounds: RoundFolder, plan: RoundPlan, known: set[tuple[str, int]], engine: Engine, further: Further
) -> RoundPlan:
    """Draw and score further prompts in the place of those that give no record, and return the plan with them."""
    times, wanted = 0, plan.settings.prompts or 0
    while plan.settings.refills:
        lacking = wanted - on_first(lambda plan=plan: fruitful(rounds, plan))  # type: ignore[misc]
        taken = further(plan, lacking) if times < plan.settings.refills else Taken([], 0)
        if lacking <= 0 or not taken.size:
            break
        times += 1
        _draw(rounds, replace(plan, prompts=taken.prompts), known, engine)
        plan = replace(plan, prompts=[*plan.prompts, *taken.prompts], taken=plan.taken + taken.size)
        score_missing(rounds, plan)
    if times:
        told = f"round {plan.number}: {times} refills, {len(plan.prompts)} prompts drawn for {wanted}"
        rank_zero_info(told if lacking <= 0 else f"{told}, of which only {wanted - lacking} give records")
    return plan


def _take(rounds: RoundFolder, plan: RoundPlan) -> None:
    """Keep the data's own responses as samples."""
    rows = [
        StoredSample(p.request.id, place, p.hash, [], text, "eos")
        for p in plan.prompts
        for place, text in enumerate(p.example.responses)
    ]
    rounds.store.add(plan.number, rows)


def _draw(rounds: RoundFolder, plan: RoundPlan, known: set[tuple[str, int]], engine: Engine) -> None:
    """Draw the batches that lack a sample, each process its own, and commit each; none is put together anew."""
    sampler, missing = missing_batches(plan, known, engine)
    if missing:
        engine.ready()
    size = 1 if engine.spreads else world_size()
    stream = sampler.stream(missing[rank() :: size] if rank() < size else [])
    with SamplingProgress(
        count_samples(missing), shown=rank() == 0, title=f"round {plan.number}: sampling"
    ) as progress:
        for _ in range(0, len(missing), size):
            found = [s for part in on_all(lambda: _next(stream, engine)) for s in part]
            on_first(lambda found=found: keep_samples(rounds, plan, found))  # type: ignore[misc]
            progress.update(found)
    if missing:
        engine.rest()


def missing_batches(plan: RoundPlan, known: set[tuple[str, int]], engine: Engine) -> tuple[Sampler, list[Batch]]:
    """Return what draws a round, and its batches that lack a sample."""
    sampler = Sampler(engine, plan.settings.generation, round_number=plan.number)
    batches = sampler.plan([p.request for p in plan.prompts])
    return sampler, [b for b in batches if any((j.request.id, k) not in known for j in b for k in j.numbers)]


def keep_samples(rounds: RoundFolder, plan: RoundPlan, found: Sequence[Sample]) -> None:
    """Commit samples of a round; the first process calls."""
    asked = [plan.prompts[s.prompt] for s in found]
    rows = [
        StoredSample(p.request.id, s.number, p.hash, s.ids, plan.said(s), s.finish, logprobs=s.logprobs)
        for p, s in zip(asked, found, strict=True)
    ]
    rounds.store.add(plan.number, rows)


def _next(stream: Iterator[list[Sample]], engine: Engine) -> list[Sample]:
    """Return the samples of this process's next batch, beside the other processes; none after its last."""
    with engine.in_step():
        return next(stream, [])


def count_samples(batches: Sequence[Batch]) -> int:
    """Return how many samples batches ask for."""
    return sum(len(job.numbers) for batch in batches for job in batch)
