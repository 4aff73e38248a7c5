"""`align benchmark truthfulqa`: MC1 and MC2 of a model folder on a local file."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from align.cli.evaluation_tables import name, short, show, write_json
from align.cli.functions import call
from align.cli.preparing import prepare
from align.cli.unused import HARNESS, PLAIN_TEXT, TRAINING
from align.errors import ConfigError
from align.evaluation.completions import Policy
from align.evaluation.truthful_qa import read_choices, truthfulness
from align.models.asked import asking_of
from align.models.backbone import Backbone
from align.records.asking import Ask


def run(words: list[str]) -> int:
    """Run the verb."""
    prepare(words)
    return call(truthfulqa, words, "benchmark truthfulqa", config=True, unused=[TRAINING, HARNESS, PLAIN_TEXT])


def truthfulqa(
    model: Backbone,
    data: str,
    *,
    chat: bool | None = None,
    ask: Ask = Ask(),
    limit: int | None = None,
    batch_size: int = 8,
    out: str | None = None,
) -> None:
    """Run lm-eval's TruthfulQA tasks (MC1, MC2) on a local file, with intervals over questions.

    Args:
        model: The model; `--model.path DIR` is enough.
        data: TruthfulQA.csv, mc_task.json, or the hub's rows as JSON or JSONL.
        chat: Put lm-eval's prompt into the chat template; null does where the model is put under something. It is
            plain text otherwise, as in published numbers.
        ask: How the model is asked where that is not as its folder says.
        limit: Use the first questions only.
        batch_size: Sequences at a time.
        out: JSON file to write; null prints the table alone.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, got {limit}")
    asking = asking_of(model.path, ask)
    asking.tell(model.path)
    rows = read_choices(Path(data))[:limit]
    found = truthfulness(Policy.load(model, asking=asking), rows, chat=chat, batch_size=batch_size)
    table = Table(title=f"TruthfulQA, {name(model.path)}: % (95 % bootstrap over questions)", title_justify="left")
    for header in ("category", "questions", "cut", "MC1", "MC2"):
        table.add_column(header, justify="left" if header == "category" else "right")
    for part in found:
        table.add_row(*map(Text, (part.part, str(part.questions), str(part.cut), short(part.mc1), short(part.mc2))))
    show(table)
    write_json(
        out,
        {
            "data": data,
            "model": model.path,
            "chat": chat,
            "asked": asking.as_dict(),
            "results": [p._asdict() for p in found],
        },
    )
