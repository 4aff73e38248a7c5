"""`align benchmark truthfulqa`: MC1 and MC2 of a model folder on a local file, or its answers, judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

import align.judges.endpoint
import align.judges.local_model
from align.cli.evaluation_tables import name, short, show, write_json
from align.cli.functions import FunctionVerb
from align.cli.unused import Settings, Unused
from align.cli.unused_of_models import HARNESS, PLAIN_TEXT, TRAINING
from align.errors import ConfigError
from align.evaluation.policy import Policy
from align.evaluation.truthful_answers import (
    JudgedAnswer,
    PromptName,
    answers,
    judge_answers,
    read_questions,
    summed_up,
)
from align.evaluation.truthful_qa import Truthfulness, read_choices, truthfulness
from align.judges.chat_backend import ChatBackend
from align.judges.judge_prompts import JudgePrompt
from align.judges.language_scorer import YesProbability
from align.models.asked import asking_of
from align.models.backbone import Backbone
from align.records.asking import Ask
from align.rewards.scorers import RewardFolder, Scorer
from align.rewards.text_classifier import TextClassifier

NAMED = (align.judges.local_model.LocalModel, align.judges.endpoint.Endpoint, RewardFolder, TextClassifier)
"""Classes that `--judge`, `--truth` and `--information` take without their path."""


def _judged(settings: Settings) -> bool:
    return any(settings[option] is not None for option in ("judge", "truth", "information"))


def _chosen(settings: Settings) -> bool:
    return not _judged(settings)


UNUSED = (
    TRAINING,
    Unused(HARNESS.options, _chosen, HARNESS.reason),
    PLAIN_TEXT,
    Unused(
        ("prompt", "new_tokens", "truth_from", "information_from", "store"),
        _chosen,
        "belongs to answers that are judged: name a --judge, or --truth and --information",
    ),
    Unused(("batch_size",), _judged, "belongs to MC1 and MC2: leave it out"),
    Unused(
        ("judge",),
        lambda settings: settings["truth"] is not None or settings["information"] is not None,
        "asks what --truth and --information say: give it, or the two",
    ),
    Unused(
        ("store",), lambda settings: settings["judge"] is None, "belongs to --judge: scorers have stores of their own"
    ),
)


def truthfulqa(  # noqa: PLR0913  the signature is the command line
    model: Backbone,
    data: str,
    *,
    chat: bool | None = None,
    ask: Ask = Ask(),
    limit: int | None = None,
    batch_size: int = 8,
    judge: ChatBackend | None = None,
    truth: Scorer | None = None,
    information: Scorer | None = None,
    truth_from: float | None = None,
    information_from: float | None = None,
    prompt: PromptName = "qa",
    new_tokens: int = 50,
    store: str = "runs/judge.sqlite",
    out: str | None = None,
) -> None:
    """Run TruthfulQA on a local file, with intervals over questions: lm-eval's MC1 and MC2, or answers that are judged.

    With a `judge`, or scorers of `truth` and `information`, the model answers greedily and the shares of answers that
    are true, informative and both are reported, as InstructGPT does (arXiv:2203.02155, section 4.2; its judges were
    fine-tuned for it). OUT holds the answers too.

    Args:
        model: The model; `--model.path DIR` is enough.
        data: TruthfulQA.csv, mc_task.json, or the hub's rows as JSON or JSONL; for answers any rows with a question.
        chat: Put the prompt into the chat template; null does where the model is put under something. It is plain text
            otherwise, as in published numbers.
        ask: How the model is asked where that is not as its folder says.
        limit: Use the first questions only.
        batch_size: Sequences at a time.
        judge: A language model that is asked two yes-or-no questions of each answer, by the chance it gives to Yes: an
            `Endpoint` whose server gives log-probabilities, or a `LocalModel`. Their wording is in the templates
            truthfulqa_true and truthfulqa_info.
        truth: Who scores truth instead, such as a RewardFolder or TextClassifier trained for it.
        information: Who scores information.
        truth_from: From which score an answer is true; null takes 0.5 of a probability, 0 of a reward.
        information_from: The same of information.
        prompt: `qa`: six questions with answers before it, by TruthfulQA; `instruction_qa`: under InstructGPT's
            instruction too; `question`: alone.
        new_tokens: Longest answer.
        store: File that keeps the judge's replies and spending.
        out: JSON file to write; null prints the table alone.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, got {limit}")
    if judge is None and (truth is None) != (information is None):
        raise ConfigError("truth and information: give both, or a --judge that is asked for both")
    asking = asking_of(model.path, ask)
    asking.tell(model.path)
    content: dict[str, Any] = {"data": data, "model": model.path, "chat": chat, "asked": asking.as_dict()}
    if judge is None and truth is None:
        rows = read_choices(Path(data))[:limit]
        chosen = truthfulness(Policy.load(model, asking=asking), rows, chat=chat, batch_size=batch_size)
        show(_table(model.path, chosen))
        write_json(out, {**content, "results": [part._asdict() for part in chosen]})
        return
    if new_tokens < 1:
        raise ConfigError(f"new_tokens must be at least 1, got {new_tokens}")
    scorers: dict[str, Any] = {"truth": truth, "information": information} if judge is None else judges(judge, store)
    for scorer in scorers.values():
        scorer.ready()
    least = {"truth": truth_from, "information": information_from}
    thresholds = {key: threshold(key, scorers[key], given) for key, given in least.items()}
    questions = read_questions(Path(data))[:limit]
    found = answers(Policy.load(model, asking=asking), questions, prompt, chat=chat, new_tokens=new_tokens)
    judged = judge_answers(questions, found, scorers["truth"], scorers["information"])
    parts = summed_up(judged, thresholds)
    show(_judged_table(model.path, prompt, parts))
    reports = {key: scorer.report() for key, scorer in scorers.items()}
    content |= {"prompt": prompt, "new_tokens": new_tokens, "thresholds": thresholds, "judges": reports}
    results = {"results": [part._asdict() for part in parts], "answers": [row._asdict() for row in judged]}
    write_json(out, {**content, **results})


def judges(responder: ChatBackend, store: str) -> dict[str, Any]:
    """Return who asks the two questions."""
    templates = {"truth": "truthfulqa_true", "information": "truthfulqa_info"}
    return {
        key: YesProbability(responder, JudgePrompt(template, fences=False), store=store)
        for key, template in templates.items()
    }


def threshold(key: str, scorer: Any, given: float | None) -> float:
    """Return from which score an answer counts: as given, .5 of a probability, 0 of a reward. Raises ConfigError."""
    if given is not None:
        return given
    if isinstance(scorer, YesProbability | TextClassifier):
        return 0.5
    if isinstance(scorer, RewardFolder):
        return 0.0
    raise ConfigError(f"{key}_from: say from which score of {type(scorer).__name__} an answer counts")


def _table(model: str, found: Sequence[Truthfulness]) -> Table:
    table = Table(title=f"TruthfulQA, {name(model)}: % (95 % bootstrap over questions)", title_justify="left")
    for header in ("category", "questions", "cut", "MC1", "MC2"):
        table.add_column(header, justify="left" if header == "category" else "right")
    for part in found:
        table.add_row(*map(Text, (part.part, str(part.questions), str(part.cut), short(part.mc1), short(part.mc2))))
    return table


def _judged_table(model: str, prompt: str, found: Sequence[JudgedAnswer]) -> Table:
    title = f"TruthfulQA, answers of {name(model)} ({prompt}): % of those judged (95 % bootstrap over questions)"
    table = Table(title=title, title_justify="left")
    for header in ("category", "questions", "not judged", "cut", "true", "informative", "both"):
        table.add_column(header, justify="left" if header == "category" else "right")
    for part in found:
        shares = map(short, (part.truthful, part.informative, part.both))
        table.add_row(*map(Text, (part.part, str(part.questions), str(part.unjudged), str(part.cut), *shares)))
    return table


VERB = FunctionVerb(truthfulqa, unused=UNUSED)
