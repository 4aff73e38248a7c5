"""From the scored samples of a round to its records: what cannot be used is counted, what is selected is sealed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from align.data.row_validation import text_fault
from align.data.source import Report
from align.errors import DataError
from align.records import Example
from align.rounds.directional_selection import RatedRows
from align.rounds.manifest import givers, manifest
from align.rounds.plan import RoundPlan
from align.rounds.round_file import write_round
from align.rounds.round_folder import RoundFolder
from align.rounds.round_prompts import RoundPrompt
from align.rounds.round_store import RoundRow, StoredSample
from align.rounds.scored_samples import PromptSamples, ScoredSample

CUT = "sample: cut off at its limit"
MORE = "draw more (generation.num_samples, prompts; refills), or take a scorer that tells samples apart"
ADVICE = {
    CUT: "raise generation.max_new_tokens, or set missing_eos_penalty (without conditions), which keeps what is cut",
    "rewards too close": f"{MORE}, or a lower margin or threshold of the selection",
    "samples of one reward": f"{MORE}, or set selection.skip_equal to false",
    "identical samples": "draw more (generation.num_samples), at a higher generation.temperature",
    "sample cut off at its limit": "raise generation.max_new_tokens",
    "empty or repeated sample": "draw at a higher generation.temperature",
    "better than the best response": "take another placing of the selection",
    "sample: no reward": "the scorer gives no number: mend it, or take another",
}
"""By the reason for which most was dropped, what to set."""


def seal(
    rounds: RoundFolder,
    plan: RoundPlan,
    data: Sequence[Example],
    *,
    own: bool,
    seconds: float,
    measured: dict[str, float],
) -> RoundRow:
    """Select, write and seal; `own` tells that the samples are the data's own responses."""
    prompts, store = plan.prompts, rounds.store
    samples = store.samples(plan.number)
    report = Report(read=len({p.example.id for p in prompts}))
    drawn = _drawn(plan, samples, report)
    selection = RatedRows() if own else plan.settings.selection
    made = selection.build(drawn, report)
    report.kept = len(made)
    if not made:
        store.came_to_nothing(plan.number)
        go_on = "; --ckpt_path of the last checkpoint goes on with other settings" if plan.number else ""
        raise DataError(f"round {plan.number} gives nothing to train on: {report}{_advice(report)}{go_on}")
    replay, seed = plan.settings.replay, plan.settings.generation.seed
    mixed = replay is not None and not own
    records = replay.mix(made, data, seed=seed, round_number=plan.number) if replay and mixed else made
    sha256 = write_round(rounds.path(plan.number), records)
    note = manifest(drawn, samples, made, records=records, report=report, seconds=seconds)
    note["metrics"] |= measured
    if plan.settings.refills:
        note["counts"]["taken"] = plan.taken
    note["scorer"] = plan.settings.scorer.report()
    store.seal(plan.number, len(records), sha256, note)
    row = store.round(plan.number)
    assert row is not None
    return row


def _advice(report: Report) -> str:
    """Return what would leave something to train on, where it is known."""
    known = [reason for reason, _ in report.dropped.most_common() if reason in ADVICE]
    return f": {ADVICE[known[0]]}" if known else ""


def fruitful(rounds: RoundFolder, plan: RoundPlan) -> int:
    """Return how many prompts of a round, all of them scored, give a record."""
    drawn = _drawn(plan, rounds.store.samples(plan.number), Report())
    return len(givers(plan.settings.selection.build(drawn, Report())))


def _drawn(plan: RoundPlan, samples: Sequence[StoredSample], report: Report) -> list[PromptSamples]:
    """Return the prompts that have a usable sample; unusable samples are counted by reason."""
    by_request: dict[str, list[StoredSample]] = {}
    for sample in samples:
        by_request.setdefault(sample.prompt, []).append(sample)
    grouped: dict[str, list[RoundPrompt]] = {}
    for prompt in plan.prompts:
        grouped.setdefault(prompt.example.id, []).append(prompt)
    found = []
    for name, asked in grouped.items():
        candidates = _candidates(plan, [by_request.get(p.request.id, []) for p in asked], report)
        if candidates:
            found.append(_of_prompt(plan, asked, candidates))
        else:
            report.drop("prompt without a usable sample", name)
    return found


def _of_prompt(plan: RoundPlan, asked: Sequence[RoundPrompt], candidates: tuple[ScoredSample, ...]) -> PromptSamples:
    seed, attributes = plan.settings.generation.seed, plan.settings.scorer.attributes
    angles = tuple(p.angle for p in asked)
    return PromptSamples(asked[0].example, candidates, attributes, plan.number, seed, plan.conditioning, angles)


def _candidates(plan: RoundPlan, groups: Sequence[Sequence[StoredSample]], report: Report) -> tuple[ScoredSample, ...]:
    """Return the usable samples of a prompt, numbered over all its conditions."""
    found, number = [], 0
    for group, samples in enumerate(groups):
        for sample in samples:
            candidate = _candidate(plan, sample, number, group)
            if isinstance(candidate, str):
                report.drop(candidate, f"{sample.prompt} sample {sample.number}")
            else:
                found.append(candidate)
            number += 1
    return tuple(found)


def _candidate(plan: RoundPlan, sample: StoredSample, number: int, group: int) -> ScoredSample | str:
    assert sample.scores is not None
    penalty = plan.settings.missing_eos_penalty
    cut = sample.finish == "length"
    if not plan.settings.selection.takes_any_text and (fault := text_fault(sample.text)):
        return f"sample: {fault}"
    if cut and penalty is None:
        return CUT
    reward = plan.direction.of(plan.settings.scorer.attributes, sample.scores) - (penalty or 0.0) * cut
    if not math.isfinite(reward):
        return "sample: no reward"
    return ScoredSample(
        number,
        sample.text.strip(),
        sample.finish,
        sample.scores,
        reward,
        group,
        tuple(sample.ids),
        tuple(sample.logprobs or ()),
    )
