"""A rubric as a scorer: a file of criteria with weights, each rated by a language model in one reply."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError, shorten
from align.judges.chat_backend import ChatBackend
from align.judges.chat_completion import ChatCompletion
from align.judges.final_answer import find_object
from align.judges.judge_prompts import RUBRIC, JudgePrompt, JudgeRequest, as_query, ask
from align.judges.language_judge import LanguageJudge
from align.judges.language_scorer import JudgedScorer
from align.judges.verdicts import Verdict, answered, invalid
from align.rewards.scorers import Dialogue


@dataclass(frozen=True)
class Criterion:
    """One line of a rubric."""

    name: str
    description: str
    weight: float


def read_rubric(path: str) -> list[Criterion]:
    """Return the criteria of a YAML or JSON file: a list of mappings with name, description and weight (1 if left out).

    Raises ConfigError naming the criterion that cannot be used.
    """
    try:
        rows = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"rubric {path}: cannot be read ({shorten(error, 120)})") from error
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"rubric {path}: expected a list of criteria, each with name, description and weight")
    found = [_criterion(path, place, row) for place, row in enumerate(rows)]
    names = [c.name for c in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"rubric {path}: {twice[0]!r} stands twice")
    return found


def _criterion(path: str, place: int, row: Any) -> Criterion:
    where = f"rubric {path}, criterion {place}"
    if not isinstance(row, Mapping) or set(row) - {"name", "description", "weight"}:
        raise ConfigError(f"{where}: expected name, description and weight, got {shorten(row, 80)}")
    name, description, weight = row.get("name"), row.get("description"), row.get("weight", 1.0)
    if not all(isinstance(text, str) and text.strip() for text in (name, description)) or name == "rubric":
        raise ConfigError(f"{where}: name and description must be texts, and the name not 'rubric', got {name!r}")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise ConfigError(f"{where} ({name}): weight must be a positive number, got {weight!r}")
    return Criterion(str(name), str(description), float(weight))


class RubricScorer(JudgedScorer):
    """The weighted mean of a language model's ratings by the criteria of a file, and each of them.

    All criteria are rated in one reply, whose JSON object has to hold a number on the scale for every one of them;
    another reply is asked for again, then it is invalid and the response has no score.
    """

    def __init__(
        self,
        responder: ChatBackend,
        rubric: str,
        *,
        scale: tuple[float, float] = (1.0, 10.0),
        fences: bool = True,
        repeats: int = 2,
        store: str = "runs/judge.sqlite",
    ) -> None:
        """Configure the scorer.

        Args:
            responder: The model: an `Endpoint`, a `LocalModel`, or in rounds the `LivePolicy`.
            rubric: YAML or JSON file: a list of criteria, each with name, description and weight (1 where left out).
            scale: Lowest and highest rating.
            fences: Put prompt and response between random marks that are stated to hold data.
            repeats: How often to ask again for a reply that is invalid.
            store: File that keeps replies and spending; the budget holds for all runs that share it.
        """
        if not scale[0] < scale[1]:
            raise ConfigError(f"scale must rise, got {list(scale)}")
        self.criteria, self.scale, self.fences = read_rubric(rubric), scale, fences
        self.attributes = ("rubric", *(c.name for c in self.criteria))
        self.judge = _RubricJudge(self, responder, repeats, store)

    @property
    def identity(self) -> str:
        """Return a hash of the responder's settings, the criteria, the scale and the weights."""
        weights = hashlib.sha256(repr([c.weight for c in self.criteria]).encode()).hexdigest()[:16]
        return f"{self.judge.name} {self._question('', '').key[:16]} {self.judge.repeats} {weights}"

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return weighted means and ratings, NaN for an invalid reply."""
        pairs = zip(map(as_query, prompts), responses, strict=True)
        verdicts = self.judge.rate([self._question(query, response) for query, response in pairs])
        missing = (math.nan,) * len(self.criteria)
        rows = [[v.first, *(v.scores or missing)] for v in verdicts]
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, len(self.attributes))

    def _question(self, query: str, response: str) -> JudgeRequest:
        plain = {
            "criteria": "\n".join(f"- {c.name}: {c.description}" for c in self.criteria),
            "lowest": f"{self.scale[0]:g}",
            "highest": f"{self.scale[1]:g}",
            "form": json.dumps({c.name: "NUMBER" for c in self.criteria}, ensure_ascii=False).replace('"NUMBER"', "…"),
        }
        settings = repr((self.judge.settings, RUBRIC))  # no weights: other ones ask nothing again
        texts = {"query": query, "response_a": response}
        return ask(RUBRIC, texts, (response,), [settings], fences=self.fences, plain=plain)

    def read(self, reply: ChatCompletion) -> Verdict:
        """Return the weighted mean of the ratings as `first`, and the ratings as `scores`."""
        answer = answered(reply)
        if isinstance(answer, Verdict):
            return answer
        found = find_object(answer.text, [c.name for c in self.criteria])
        if isinstance(found, str):
            return invalid(found)
        for criterion in self.criteria:
            value = found[criterion.name]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not self.scale[0] <= value <= self.scale[1]:
                return invalid(f"{criterion.name} is not a number from {self.scale[0]:g} to {self.scale[1]:g}")
        values = tuple(float(found[c.name]) for c in self.criteria)
        total = sum(c.weight for c in self.criteria)
        return Verdict(sum(c.weight * v for c, v in zip(self.criteria, values, strict=True)) / total, scores=values)


class _RubricJudge(LanguageJudge):
    """Asks, keeps and counts as any judge; its replies are read by the rubric."""

    def __init__(self, rubric: RubricScorer, responder: ChatBackend, repeats: int, store: str) -> None:
        super().__init__(responder, JudgePrompt("mt_bench_single"), repeats=repeats, store=store)
        self.rubric, self.name = rubric, f"{responder.name} (rubric)"

    def read(self, reply: ChatCompletion) -> Verdict:
        return self.rubric.read(reply)
