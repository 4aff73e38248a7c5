"""Scores of single responses by a language model: a rating it writes, or the chance it gives to Yes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError
from align.judges.chat_backend import ChatBackend
from align.judges.judge_prompts import JudgePrompt, as_query
from align.judges.language_judge import SINGLE, LanguageJudge
from align.rewards.components import Component
from align.rewards.scorers import Dialogue, Scorer


class JudgedScorer(Scorer):
    """Scores by questions to a language judge; replies are kept in its store, so nothing is asked twice.

    Raises Paused when a budget or the service stops the work; the same command goes on with what is left.
    """

    judge: LanguageJudge

    @property
    def identity(self) -> str:
        """Return a hash of the responder's settings, of the prompt and of how its reply is read."""
        probe = self.judge.prompt.question("", "", "", self.judge.settings)
        text = repr((probe.key, self.judge.repeats, self.attributes))
        return f"{self.judge.name} {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def parts(self) -> Sequence[Component]:
        """Return the judge."""
        return (self.judge,)

    def report(self) -> dict[str, object]:
        """Return invalid replies by reason, what was asked and reused, and the spending."""
        return self.judge.report()

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return the judge's number for each response, NaN for an invalid reply."""
        settings = self.judge.settings
        pairs = zip(map(as_query, prompts), responses, strict=True)
        questions = [self.judge.prompt.question(query, response, "", settings) for query, response in pairs]
        return torch.tensor([[v.first] for v in self.judge.rate(questions)], dtype=torch.float64).reshape(-1, 1)


class LanguageModelScorer(JudgedScorer):
    """A language model that rates single responses, such as a judge of self-rewarding (arXiv:2401.10020) or RLAIF."""

    attributes = ("rating",)

    def __init__(
        self,
        responder: ChatBackend,
        prompt: JudgePrompt = JudgePrompt("self_rewarding"),
        *,
        repeats: int = 2,
        store: str = "runs/judge.sqlite",
    ) -> None:
        """Configure the scorer.

        Args:
            responder: The model: an `Endpoint`, a `LocalModel`, or in rounds the `LivePolicy`.
            prompt: What it is asked: `self_rewarding` (0 to 5 points), `mt_bench_single` (1 to 10), or a file of your
                own with the form `points` or `rating`.
            repeats: How often to ask again for a reply that is invalid.
            store: File that keeps replies and spending; the budget holds for all runs that share it.
        """
        if prompt.reply_form not in SINGLE:
            raise ConfigError(
                f"prompt.template {prompt.template}: its replies ({prompt.reply_form}) compare two responses, expected "
                "one that rates a single one: self_rewarding or mt_bench_single, or WinRates with a LanguageJudge"
            )
        self.judge = LanguageJudge(responder, prompt, repeats=repeats, store=store)


class YesProbability(JudgedScorer):
    """P(Yes) / (P(Yes) + P(No)), the chances a language model gives to the first word of its reply.

    An `Endpoint` is asked for its log-probabilities of the first token, of which it lists twenty at most; a
    `LocalModel` scores both words as they follow its prompt, which is exact.
    """

    attributes = ("yes",)

    def __init__(
        self,
        responder: ChatBackend,
        prompt: JudgePrompt = JudgePrompt("yes_no", fences=False),
        *,
        store: str = "runs/judge.sqlite",
    ) -> None:
        """Configure the scorer.

        Args:
            responder: The model: an `Endpoint` whose server gives log-probabilities, a `LocalModel`, or in rounds the
                `LivePolicy`.
            prompt: The question: `yes_no`, or a file of your own with the form `yes_no`.
            store: File that keeps replies and spending.
        """
        if prompt.reply_form != "yes_no":
            raise ConfigError(f"prompt.form must be yes_no for YesProbability, got {prompt.reply_form}")
        self.judge = LanguageJudge(responder, prompt, repeats=0, store=store)
