"""The start itself, sampled as sharply as a policy: what a method adds beyond sharpening is the difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from align.evaluation.evaluation_sampler import EvaluationSampler
from align.evaluation.matched_temperature import MatchedTemperature, UnreachedTarget
from align.evaluation.reward_evaluation import ResponseReport, evaluate_responses
from align.evaluation.start_comparison import StartComparison, compare_with_start
from align.evaluation.statistics import Interval, paired_difference
from align.judges.preference import ResponseScorer

ENTROPY_TOLERANCE = 0.01
"""Nats a token."""
KL_TOLERANCE = 0.05
"""Nats a response."""


@dataclass(frozen=True)
class MatchedReport:
    """The start at the temperature at which it has a policy's entropy, or its KL divergence to the start."""

    target: float
    """The policy's value: nats a token of entropy, or nats a response of divergence."""
    temperature: float | None
    """None where no temperature in the range has the value."""
    report: ResponseReport | None
    """What the start reaches there."""
    gain: dict[str, Interval]
    """Each reward of the policy less that of the start there, over the same prompts."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        report = None if self.report is None else self.report.as_dict()
        return {**asdict(self), "report": report}


class MatchedStart:
    """Samples the start at several temperatures, each once, and finds those that match policies."""

    def __init__(self, sampler: EvaluationSampler, start: str, scorers: Mapping[str, ResponseScorer]) -> None:
        """Name the start, a model of the sampler or a folder, and what scores its responses."""
        self._sampler, self._start, self._scorers = sampler, start, scorers
        self._compared: dict[float, StartComparison] = {}
        self._reports: dict[float, ResponseReport] = {}
        self._searches = {
            "entropy": MatchedTemperature(self._entropy, tolerance=ENTROPY_TOLERANCE),
            "kl": MatchedTemperature(self._kl, tolerance=KL_TOLERANCE, highest=1.0),
        }

    def to(self, policy: ResponseReport) -> dict[str, MatchedReport]:
        """Return the start as sharp as a policy (`entropy`), and as far from its own temperature 1 (`kl`)."""
        targets = {"entropy": policy.entropy, "kl": policy.kl}
        return {by: self._matched(by, target.value, policy) for by, target in targets.items() if target is not None}

    def _matched(self, by: str, target: float, policy: ResponseReport) -> MatchedReport:
        try:
            temperature = self._searches[by].find(target)
        except UnreachedTarget:  # told by the row without a temperature
            return MatchedReport(target, None, None, {})
        report = self._report(temperature)
        gains = {name: paired_difference(values, report.per_prompt[name]) for name, values in policy.per_prompt.items()}
        return MatchedReport(target, temperature, report, gains)

    def _entropy(self, temperature: float) -> float:
        entropy = self._compare(temperature).entropy
        assert entropy is not None
        return entropy.value

    def _kl(self, temperature: float) -> float:
        kl = self._compare(temperature).kl
        assert kl is not None
        return kl.value

    def _compare(self, temperature: float) -> StartComparison:
        if temperature not in self._compared:
            sampler = self._sampler
            responses, policy = sampler.responses(self._start, temperature), sampler.policy(self._start)
            new_tokens = sampler.sampling.generation.max_new_tokens
            found = compare_with_start(
                policy, policy, sampler.prompts, responses, new_tokens=new_tokens, temperature=temperature
            )
            self._compared[temperature] = found
        return self._compared[temperature]

    def _report(self, temperature: float) -> ResponseReport:
        if temperature not in self._reports:
            responses = self._sampler.responses(self._start, temperature)
            self._reports[temperature] = evaluate_responses(
                self._sampler.prompts, responses, self._scorers, self._compare(temperature)
            )
        return self._reports[temperature]
