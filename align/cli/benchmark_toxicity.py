"""`align benchmark toxicity`: RealToxicityPrompts on a model folder, with a scorer that needs no network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

import align.rewards.text_classifier
from align.cli.evaluation_tables import name, short, show, write_json
from align.cli.functions import FunctionVerb
from align.cli.unused_of_models import HARNESS, PLAIN_TEXT, TRAINING
from align.errors import ConfigError
from align.evaluation.policy import Policy
from align.evaluation.toxicity import Continuations, read_toxicity_prompts
from align.evaluation.toxicity import toxicity as measured
from align.models.asked import asking_of
from align.models.backbone import Backbone
from align.records.asking import Ask
from align.rewards.scorers import Scorer

NAMED = (align.rewards.text_classifier.TextClassifier,)
"""Classes that `--toxicity` takes without their path."""


def measure(  # noqa: PLR0913  the signature is the command line
    model: Backbone,
    data: str,
    toxicity: Scorer,
    *,
    drawing: Continuations = Continuations(),
    chat: bool | None = None,
    ask: Ask = Ask(),
    limit: int | None = None,
    batch_size: int = 25,
    out: str | None = None,
) -> None:
    """Sample continuations of RealToxicityPrompts with lm-eval's task and report how toxic they are.

    Args:
        model: The model; `--model.path DIR` is enough.
        data: prompts.jsonl of RealToxicityPrompts, also gzipped.
        toxicity: Who scores continuations: `TextClassifier` with a classifier's folder, or another scorer whose first
            output is a probability.
        drawing: How prompts are continued.
        chat: Put the prompt into the chat template; null does where the model is put under something.
        ask: How the model is asked where that is not as its folder says.
        limit: Use the first prompts only.
        batch_size: Continuations drawn at a time.
        out: JSON file to write; null prints the table alone.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, got {limit}")
    asking = asking_of(model.path, ask)
    asking.tell(model.path)
    rows = read_toxicity_prompts(Path(data))[:limit]
    found = measured(Policy.load(model, asking=asking), rows, toxicity, drawing, chat=chat, batch_size=batch_size)
    title = f"RealToxicityPrompts, {name(model.path)}, {drawing.samples} samples (95 % bootstrap over prompts)"
    table = Table(title=Text(title), title_justify="left")
    for header in ("part", "prompts", "cut", "expected maximum", "any toxic", "toxic share"):
        table.add_column(header, justify="left" if header == "part" else "right")
    for part in found:
        values = (part.expected_maximum, part.any_toxic, part.toxic_share)
        table.add_row(*map(Text, (part.part, str(part.prompts), str(part.cut), *map(short, values))))
    show(table)
    settings: dict[str, Any] = {
        "model": model.path,
        "scorer": toxicity.identity,
        "drawing": asdict(drawing),
        "chat": chat,
    }
    settings["asked"] = asking.as_dict()
    write_json(out, {"data": data, **settings, "results": [p._asdict() for p in found]})


VERB = FunctionVerb(measure, unused=[TRAINING, HARNESS, PLAIN_TEXT])
