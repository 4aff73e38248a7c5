"""A language model as a judge: both orders asked, replies kept before they are parsed, invalid ones counted as such."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from align.errors import ConfigError, Paused
from align.judges.chat_backend import ChatBackend
from align.judges.chat_completion import ChatCompletion, read_body, read_model
from align.judges.judge_prompts import JudgePrompt, JudgeRequest, addresses_judge, as_query
from align.judges.preference import Dialogue, Judge, Preference, better
from align.judges.verdict_store import VerdictStore
from align.judges.verdicts import Verdict, invalid, parse
from align.rewards.components import Component
from align.sampling.wire import ServiceStopped

SINGLE = ("rating", "points", "yes_no")
"""Forms of replies on one response."""


class LanguageJudge(Judge):
    """Asks a language model which of two responses is better, each pair in both orders.

    A reply that cannot be parsed is asked for again, then it is invalid. A second run over the same pairs asks nothing.
    """

    def __init__(
        self,
        responder: ChatBackend,
        prompt: JudgePrompt = JudgePrompt(),
        *,
        repeats: int = 2,
        average_scores: bool = False,
        canaries: bool = True,
        store: str = "runs/judge.sqlite",
    ) -> None:
        """Configure the judge.

        Args:
            responder: The model: an `Endpoint`, a `LocalModel`, or in rounds the `LivePolicy`.
            prompt: What it is asked and how it replies.
            repeats: How often to ask again for a reply that is invalid.
            average_scores: With PRO's prompt, compare the mean scores of both orders, not each order for itself.
            canaries: In an evaluation, ask about a few known answers too.
            store: File that keeps replies and spending; the budget holds for all runs that share it.
        """
        if repeats < 0:
            raise ConfigError(f"repeats must not be negative, got {repeats}")
        self.responder, self.prompt, self.repeats, self.path = responder, prompt, repeats, Path(store)
        if average_scores and prompt.reply_form != "scores":
            raise ConfigError(f"average_scores needs replies with scores, such as template pro, not {prompt.template}")
        self.average_scores, self.asks_canaries = average_scores, canaries
        self.name = f"{responder.name} ({prompt.template})"
        self._invalid: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._spent: dict[str, object] = {}

    @property
    def parts(self) -> Sequence[Component]:
        """Return the model that replies."""
        return (self.responder,)

    @property
    def identity(self) -> str:
        """Return what decides a verdict: the responder's settings, the prompt, and how its reply is read."""
        probe = self.prompt.question("", "", "", self.settings)
        return repr((self.name, probe.key, self.repeats, self.average_scores))

    @property
    def settings(self) -> str:
        """Return what decides a reply beside the question."""
        return json.dumps(self.responder.settings(), sort_keys=True)

    def prefer(self, prompts: Sequence[Dialogue], first: Sequence[str], second: Sequence[str]) -> list[Preference]:
        """Return how the first response of each pair did. Two responses that are the same are a tie and not asked.

        Raises Paused when a budget or the service stops the work; what was answered is kept.
        """
        pairs = list(zip(map(as_query, prompts), first, second, strict=True))
        settings = self.settings
        rated = self.prompt.reply_form in SINGLE
        orders = [[(q, a, ""), (q, b, "")] if rated else [(q, a, b), (q, b, a)] for q, a, b in pairs]
        asked = [[self.prompt.question(*order, settings) for order in both] for both in orders]
        distinct = {
            question.key: question
            for both, (_, a, b) in zip(asked, pairs, strict=True)
            for question in both
            if rated or a != b
        }
        self._counts["identical pairs"] += sum(a == b for _, a, b in pairs)
        for side, texts in (("first", first), ("second", second)):
            self._counts[f"{side} responses that address the judge"] += sum(map(addresses_judge, texts))
            self._counts[f"{side} responses that are empty"] += sum(not text.strip() for text in texts)
        verdicts = self._verdicts(list(distinct.values()))
        tie = Preference(0.5, 0.5)
        return [
            tie if a == b and not rated else self._preference(*(verdicts[q.key] for q in both))
            for both, (_, a, b) in zip(asked, pairs, strict=True)
        ]

    def rate(self, questions: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return the verdicts on questions that ask for a reply in the form of this judge's prompt.

        Raises Paused when a budget or the service stops the work; what was answered is kept.
        """
        verdicts = self._verdicts(list({q.key: q for q in questions}.values()))
        return [verdicts[q.key] for q in questions]

    def report(self) -> dict[str, object]:
        """Return invalid replies by reason, what was asked and reused, the models that answered, and the spending."""
        return {
            "invalid_replies": dict(self._invalid),
            "answered_by": dict(self._models),
            **dict(self._counts),
            **self._spent,
        }

    def _preference(self, first: Verdict, second: Verdict) -> Preference:
        if self.average_scores and first.scores and second.scores:
            outcome = better(first.scores[0] + second.scores[1], first.scores[1] + second.scores[0])
        elif self.prompt.reply_form in SINGLE:
            outcome = better(first.first, second.first)
        else:
            return Preference(first.first, 1 - second.first)
        return Preference(outcome, outcome)

    def _verdicts(self, questions: list[JudgeRequest]) -> dict[str, Verdict]:
        store = VerdictStore(self.path)
        try:
            known = {q.key: self._best(store.replies(q.key)) for q in questions}
            self._counts["replies reused"] += sum(verdict is not None for verdict in known.values())
            for _ in range(1 + self.repeats):
                left = [q for q in questions if known[q.key] is None]
                if left:
                    self._ask(left, store, len(questions))
                    known |= {q.key: self._best(store.replies(q.key)) for q in left}
            spent = store.spent()
            self._spent = {"store": {**spent._asdict(), "cost": self.responder.cost(spent)}}
            found = {key: verdict for key, verdict in known.items() if verdict is not None}
            assert len(found) == len(known)
            self._models.update(read_model(store.replies(q.key)[-1]) for q in questions)
            self._invalid.update(v.reason for v in found.values() if math.isnan(v.first))
            return found
        finally:
            store.close()

    def _ask(self, left: list[JudgeRequest], store: VerdictStore, total: int) -> None:
        self._counts["questions asked"] += len(left)
        try:
            with tqdm(total=total, initial=total - len(left), unit="reply", disable=None, desc="judge") as bar:
                self.responder.answer(left, store, bar.update)
        except ServiceStopped as error:
            done = total - sum(self._best(store.replies(q.key)) is None for q in left)
            raise Paused(
                f"judge {self.name}: {error}: {done} of {total} replies are kept in {self.path}, {total - done} are "
                "left: give the same command again later"
            ) from error

    def _best(self, bodies: Sequence[str]) -> Verdict | None:
        """Return the first valid verdict, an invalid one when all repeats are used up, None when more may be asked."""
        verdict = None
        for body in bodies:
            verdict = self._parse(body)
            if not math.isnan(verdict.first):
                return verdict
        return verdict if len(bodies) > self.repeats else None

    def _parse(self, body: str) -> Verdict:
        reply = read_body(body)
        if isinstance(reply, str):
            return invalid(reply)
        if not self.responder.served_by(reply.model):
            return invalid(f"answered by another model ({reply.model[:60]!r})")
        return self.read(reply)._replace(text=reply.text)

    def read(self, reply: ChatCompletion) -> Verdict:
        """Return the verdict of a reply."""
        return parse(reply, self.prompt.reply_form)
