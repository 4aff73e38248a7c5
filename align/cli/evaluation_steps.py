"""What `align evaluate` does with each model: its report, the start beside it, and what a judge says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from align.cli.evaluation_tables import judge_notes, judge_table, show
from align.cli.matched_tables import best_of_table, matched_table
from align.errors import ConfigError
from align.evaluation.asked_models import AskedModels
from align.evaluation.best_of_n import BestOf
from align.evaluation.completions import EvaluationPrompt, examples_of
from align.evaluation.evaluation_sampler import EvaluationSampler, Sampling
from align.evaluation.judging import JudgeReport, evaluate_judge
from align.evaluation.matched_start import MatchedReport, MatchedStart
from align.evaluation.model_answers import is_answer_file
from align.evaluation.reward_evaluation import ResponseReport, evaluate_responses
from align.evaluation.start_comparison import StartComparison, compare_with_start
from align.judges.preference import Judge, ResponseScorer
from align.judges.win_rates import refuse_win_rates
from align.rewards.scorers import Scorer

REFERENCES = "references"


def check_judge(judge: Judge | None, names: Sequence[str], against: str, prompts: Sequence[EvaluationPrompt]) -> None:
    """Raise ConfigError for a judge that is not ready, or that has nothing to compare, or lacks a column."""
    if judge is None:
        return
    judge.ready()
    if names == [against]:
        raise ConfigError(f"against {against}: the only model would be compared with itself: name another one")
    if against == REFERENCES and any(p.reference is None for p in prompts):
        raise ConfigError("against references: a prompt has no chosen response: name a model folder in --against")
    judge.check_examples(examples_of(prompts))


def check_best_of(best_of: BestOf | None, askings: AskedModels, sampling: Sampling, scorer: Scorer | None) -> None:
    """Raise ConfigError where there are too few samples to take the best of, or they are only compared for that."""
    if best_of is None:
        refuse_win_rates(scorer, "name its judge in --judge, which compares models, or choose by it, --best_of.n [1,4]")
        return
    if max(best_of.n) > sampling.generation.num_samples:
        raise ConfigError(
            f"best_of.n: {max(best_of.n)} needs as many samples of a prompt, got {sampling.generation.num_samples}: "
            "raise sampling.generation.num_samples"
        )
    if file := next(filter(is_answer_file, map(askings.path, askings.names)), None):
        raise ConfigError(f"best_of: {file} is a file of one answer to each prompt: leave one of them out")


def check_start(start: str | None, askings: AskedModels, sampling: Sampling, *, matched: bool) -> None:
    """Raise ConfigError where the distance to a start cannot be told."""
    if start is None:
        if matched:
            raise ConfigError("matched: the start is sampled beside the models: name it in --start")
        return
    if matched and {askings.path(name) for name in askings.names} == {askings.path(start)}:
        raise ConfigError("matched: the only model is the start itself: name another one in --models")
    if file := next(filter(is_answer_file, map(askings.path, askings.names)), None):
        raise ConfigError(f"start: the KL divergence needs models, and {file} is a file of answers: leave one out")
    if sampling.generation.top_p != 1 or 1.0 not in sampling.temperatures:
        raise ConfigError("start: the KL divergence is estimated from samples at temperature 1 and top_p 1: add them")


def report_of(
    sampler: EvaluationSampler,
    name: str,
    temperature: float,
    scorers: Mapping[str, ResponseScorer],
    *,
    start: str | None,
    best_of: BestOf | None,
) -> ResponseReport:
    """Return what a model's responses at a temperature are like, beside its start where one is named."""
    responses, beside = sampler.responses(name, temperature), StartComparison()
    if start is not None:
        new_tokens, policy = sampler.sampling.generation.max_new_tokens, sampler.policy(name)
        first = policy if name == start else sampler.load(start)
        beside = compare_with_start(
            policy, first, sampler.prompts, responses, new_tokens=new_tokens, temperature=temperature
        )
    return evaluate_responses(sampler.prompts, responses, scorers, beside, best_of if temperature else None)


def matched_of(
    sampler: EvaluationSampler,
    reports: Mapping[str, Mapping[float, ResponseReport]],
    scorers: Mapping[str, ResponseScorer],
    start: str | None,
) -> dict[str, dict[float, dict[str, MatchedReport]]]:
    """Return the start as sharp as every other model at every temperature above 0, and show it; nothing without one."""
    if start is None:
        return {}
    beside = MatchedStart(sampler, start, scorers)
    path = sampler.models.path(start)
    found = {
        name: {t: beside.to(report) for t, report in levels.items() if t}
        for name, levels in reports.items()
        if sampler.models.path(name) != path
    }
    if found:
        outputs = list(next(iter(next(iter(reports.values())).values())).rewards)
        show(matched_table(found, outputs, sampler.models.told))
    return found


def show_best_of(reports: Mapping[str, Mapping[float, ResponseReport]], models: AskedModels) -> None:
    """Show what the best of n samples reaches, where it was asked for."""
    if any(report.best_of for levels in reports.values() for report in levels.values()):
        show(best_of_table(reports, models.told))


def kept_file(sampler: EvaluationSampler, model: str, temperature: float) -> str:
    """Return where the responses of a model are, below the output folder or as a file of their own."""
    path = sampler.models.path(model)
    return path if is_answer_file(path) else str(sampler.file(model, temperature).path.relative_to(sampler.out))


def judged_of(
    judge: Judge | None, sampler: EvaluationSampler, names: list[str], against: str
) -> dict[str, JudgeReport]:
    """Return and show what a judge makes of every model, nothing where there is none."""
    if judge is None:
        return {}
    judged = _judge(judge, sampler, names, against)
    show(judge_table(judged, against, sampler.models.told))
    if told := judge.report():
        print(judge_notes(told))
    return judged


def _judge(judge: Judge, sampler: EvaluationSampler, models: list[str], against: str) -> dict[str, JudgeReport]:
    temperature = sampler.sampling.temperatures[0]
    if against == REFERENCES:
        other = [p.reference or "" for p in sampler.prompts]
    else:
        other = sampler.first_texts(against, temperature)
    return {
        name: evaluate_judge(judge, sampler.prompts, sampler.first_texts(name, temperature), other)
        for name in models
        if name != against
    }
