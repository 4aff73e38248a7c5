"""Options of models and of sampling that several verbs do not read."""

from __future__ import annotations

from align.cli.unused import Settings, Unused, always, given
from align.models import backbone
from align.models.asked import asking_of


def greedy(settings: Settings) -> bool:
    """Return whether nothing is drawn at random."""
    return bool(settings["generation"].temperature == 0)


TRAINING = Unused(
    tuple(f"model.{name}" for name in backbone.TRAINING),
    always,
    "belongs to training, this verb only asks the model: leave it out",
)
POOL = (
    Unused(("pool.importance_cap",), always, "belongs to online RL, where losses are corrected by it: leave it out"),
)
RAY = (Unused(("pool",), given("ray"), "--ray draws instead: give one of them"),)
HARNESS = Unused(
    ("model.check",),
    always,
    "belongs to align's own engines and layouts, lm-eval asks the model in its own way: leave it out",
)
PLAIN_TEXT = Unused(
    ("model.chat_template",),
    lambda settings: not settings["chat"] and not asking_of(settings["model"].path, settings["ask"]).puts,
    "belongs to --chat true, prompts are plain text: leave it out",
)
GREEDY = Unused(
    ("generation.seed",), greedy, "draws nothing at --generation.temperature 0: raise that, or leave it out"
)
