"""The sections of a report on what `align evaluate` measured."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from align.evaluation.evaluation_reader import Evaluation, Level, Verdicts, first_responses
from align.evaluation.pairwise_wins import best, win_matrix
from align.evaluation.report_page import Best, Section, SideBySide, Table
from align.evaluation.reward_evaluation import TOTAL
from align.evaluation.run_figures import intervals
from align.evaluation.statistics import Interval

MEASURES = {
    "mean_words": "words",
    "refusal_rate": "refusals",
    "repetition_4": "repetition",
    "distinct_2": "distinct-2",
    "finished": "ended",
    "bleu_characters_pro": "BLEU chars",
    "bleu_corpus": "BLEU",
}


def reward_sections(evaluation: Evaluation, names: Sequence[str]) -> list[Section]:
    """Return rewards and text measures by model and temperature, and who wins against whom by reward.

    Args:
        evaluation: What was measured; its models are called by the names the report uses.
        names: Of all models of the report; their places decide the colours.
    """
    outputs = evaluation.outputs
    rows, figures = [], []
    for temperature in evaluation.temperatures:
        levels = _levels(evaluation, temperature)
        winners = {
            o: best({n: level.per_prompt[o] for n, level in levels.items() if o in level.per_prompt}) for o in outputs
        }
        for name, level in levels.items():
            cells = [_cell(level.rewards.get(o, {}).get(TOTAL), winners[o] == name) for o in outputs]
            rest = [_plain(level.text.get(key)) for key in MEASURES]
            rows.append([name, f"{float(temperature):g}", *cells, *rest, "" if level.kl is None else _short(level.kl)])
    header = ["model", "T", *map(_name, outputs), *MEASURES.values(), "KL"]
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    tables = [Table([header[i] for i in kept], [[row[i] for i in kept] for row in rows]), *_by_subset(evaluation)]
    if evaluation.asked:
        asked = [[name, *evaluation.asked.get(name, ("plainly", ""))] for name in evaluation.models]
        tables.append(
            Table(["model", "asked", "beside the prompt"], asked, words=True, caption="How models were asked")
        )
    for output in outputs:
        found = [
            (f"{name}, T {float(t):g}", list(names).index(name), level.rewards[output][TOTAL])
            for t in evaluation.temperatures
            for name, level in _levels(evaluation, t).items()
            if output in level.rewards
        ]
        figures.append(intervals(_name(output), found))
    text = f"{_count(evaluation)} Mean reward with its 95 % interval over prompts; T is the temperature, 0 is greedy."
    parts = [Section(f"Rewards: {evaluation.folder.name}", text, tables, figures)]
    return parts + _reward_matrices(evaluation)


def judge_sections(evaluation: Evaluation) -> list[Section]:
    """Return what a judge said: wins, ties, losses of each model, and who beats whom."""
    if not evaluation.judged:
        return []
    header = ["model", "against", "win rate %", "win %", "tie %", "lose %", "same length %", "flips %", "invalid"]
    rows = []
    for (name, against), found in evaluation.judged.items():
        shares = [_percent(v) for v in (found.win, found.tie, found.lose)]
        rate = Best(_percent(found.win_rate)) if found.win_rate.low > 0.5 else _percent(found.win_rate)
        rest = [f"{100 * found.length_controlled:.1f}", _percent(found.flip_rate)]
        rows.append([name, against, rate, *shares, *rest, f"{found.invalid} of {found.invalid + found.items}"])
    judges = ", ".join(dict.fromkeys(found.judge for found in evaluation.judged.values()))
    text = (
        f"Judge: {judges}, asked in both orders. A win rate (ties half) is marked where its interval lies above 50. "
        "Same length is the win rate had both sides been of one length; a flip is a verdict that depends on the order."
    )
    tables = [Table(header, rows)]
    opponents = list(dict.fromkeys(against for _, against in evaluation.judged))
    if len(opponents) > 1:
        tables.append(_matrix(_mirrored(evaluation.judged), "Win rate % of the row over the column, by the judge"))
    return [Section(f"Judge: {evaluation.folder.name}", text, tables)]


def completions_section(evaluation: Evaluation, examples: int) -> list[Section]:
    """Return the responses of all models to the first prompts side by side, each with its prompt's mean reward."""
    if not evaluation.temperatures:
        return []
    temperature = evaluation.temperatures[0]
    levels = {n: level for n, level in _levels(evaluation, temperature).items() if level.completions is not None}
    cases: dict[str, list[tuple[str, str, float | None]]] = {}
    for name, level in levels.items():
        assert level.completions is not None
        for place, found in enumerate(first_responses(level.completions, examples)):
            rewards = next(iter(level.per_prompt.values()), None)
            reward = None if rewards is None or isnan(rewards[place]) else rewards[place]
            cases.setdefault(found.prompt, []).append((name, found.text, reward))
    if not cases or not examples:
        return []
    about = f" The number is the prompt's mean reward by {_name(evaluation.outputs[0])}." if evaluation.outputs else ""
    text = f"The first {len(cases)} prompts, one response each, at temperature {float(temperature):g}.{about}"
    return [
        Section(f"Responses: {evaluation.folder.name}", text, comparisons=[SideBySide(p, a) for p, a in cases.items()])
    ]


def _reward_matrices(evaluation: Evaluation) -> list[Section]:
    tables = []
    for temperature in evaluation.temperatures:
        levels = _levels(evaluation, temperature)
        for output in evaluation.outputs:
            values = {n: level.per_prompt[output] for n, level in levels.items() if output in level.per_prompt}
            if len(values) > 1:
                about = (
                    f"Win rate % of the row over the column, by the reward {_name(output)}, T {float(temperature):g}"
                )
                tables.append(_matrix(win_matrix(values), about))
    text = (
        "Not a judge: on each prompt the model with the higher mean reward wins, a tie counts half. Marked where the "
        "interval lies above 50; the intervals are not corrected for the number of pairs."
    )
    return [Section(f"Wins by reward: {evaluation.folder.name}", text, tables)] if tables else []


def _matrix(wins: dict[tuple[str, str], Interval], caption: str) -> Table:
    rows = list(dict.fromkeys(one for one, _ in wins))
    columns = list(dict.fromkeys([*rows, *(other for _, other in wins)]))
    cells = [
        [one, *("" if (found := wins.get((one, other))) is None else _won(found) for other in columns)] for one in rows
    ]
    return Table(["", *columns], cells, caption=caption)


def _mirrored(judged: dict[tuple[str, str], Verdicts]) -> dict[tuple[str, str], Interval]:
    """Return the win rates in both directions; what was asked goes before what follows from it."""
    found = {(b, a): Interval(1 - v.value, 1 - v.high, 1 - v.low) for (a, b), v in _rates(judged).items()}
    return {**found, **_rates(judged)}


def _rates(judged: dict[tuple[str, str], Verdicts]) -> dict[tuple[str, str], Interval]:
    return {pair: found.win_rate for pair, found in judged.items()}


def _by_subset(evaluation: Evaluation) -> list[Table]:
    tables = []
    for output in evaluation.outputs:
        rows, subsets = [], dict[str, None]()
        for temperature in evaluation.temperatures:
            for name, level in _levels(evaluation, temperature).items():
                parts = {s: v for s, v in level.rewards.get(output, {}).items() if s != TOTAL}
                subsets |= dict.fromkeys(parts)
                rows.append((name, f"{float(temperature):g}", parts))
        if subsets:
            cells = [[name, t, *(_cell(parts.get(s), winner=False) for s in subsets)] for name, t, parts in rows]
            tables.append(Table(["model", "T", *subsets], cells, caption=f"{_name(output)}, by subset"))
    return tables


def _levels(evaluation: Evaluation, temperature: str) -> dict[str, Level]:
    return {name: levels[temperature] for name, levels in evaluation.models.items() if temperature in levels}


def _count(evaluation: Evaluation) -> str:
    counts = {len(v) for ls in evaluation.models.values() for level in ls.values() for v in level.per_prompt.values()}
    seed = evaluation.settings.get("sampling", {}).get("generation", {}).get("seed")
    return f"{max(counts, default=0)} prompts, sampling seed {seed}." if counts else f"Sampling seed {seed}."


def _cell(value: Interval | None, winner: bool) -> str:
    return "" if value is None else Best(_short(value)) if winner else _short(value)


def _won(value: Interval) -> str:
    return Best(_percent(value)) if value.low > 0.5 else _percent(value)


def _percent(value: Interval) -> str:
    return f"{100 * value.value:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def _short(value: Interval) -> str:
    return "-" if isnan(value.value) else f"{value.value:.3g} [{value.low:.3g}, {value.high:.3g}]"


def _name(output: str) -> str:
    """Return a short name for an output: the last part of the folder, or that of the run it lies in."""
    parts = [part for part in output.split("/") if part not in ("", "model", ".")]
    return parts[-1] if parts else output


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
