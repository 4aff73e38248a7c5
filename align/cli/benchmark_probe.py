"""`align benchmark probe`: does a policy answer differently when one word of the prompt changes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from align.cli.evaluation_tables import short, show
from align.cli.functions import FunctionVerb
from align.cli.reward_models import RewardFolders, load_reward_models, tell_reading
from align.cli.unused import REWARD_TOKENS
from align.cli.unused_of_models import GREEDY, TRAINING
from align.encoding.templates import TemplateName
from align.evaluation.bias_probe import Effect, Grid, probe
from align.evaluation.policy import Policy
from align.models.asked import asking_of
from align.models.backbone import Backbone
from align.records.asking import Ask
from align.rewards.named_rewards import Tokens
from align.sampling.generation import Generation
from align.strict_json import json_text

UNUSED = (
    TRAINING,
    GREEDY,
    REWARD_TOKENS,
)


def probe_grid(  # noqa: PLR0913  the signature is the command line
    model: Backbone,
    grid: Grid,
    rewards: RewardFolders | None = None,
    *,
    reward_tokens: Tokens = None,
    out: str | None = None,
    template: TemplateName = "auto",
    chat_template_kwargs: dict[str, Any] | None = None,
    generation: Generation = Generation(num_samples=4),
    ask: Ask = Ask(),
) -> None:
    """Sample on a grid of prompts that differ in one attribute and report differences with intervals over contexts.

    Args:
        model: The model; `--model.path DIR` is enough.
        grid: The prompts, best in a YAML file given by `-c`.
        rewards: Reward model folders, or folders by name (`--rewards.NAME DIR`); the first output of each is reported.
        reward_tokens: Longest dialogue they read whole, for all (2048) or by name, or the last part of a folder's path
            ({rm: 2048}); null takes that of their training, or their context.
        out: JSON file to write; null prints the table alone.
        template: How prompts are written, as in training.
        chat_template_kwargs: What the chat template is given beside the dialogue, such as {"enable_thinking": false};
            a folder of ours keeps those of its training.
        generation: How to draw.
        ask: How the model is asked where that is not as its folder says.
    """
    scorers = load_reward_models(rewards or [], reward_tokens)
    asking = asking_of(model.path, ask)
    asking.tell(model.path)
    completions = Policy.load(model, template, chat_template_kwargs, asking).complete(grid.prompts(), generation)
    effects = probe(grid, completions, scorers)
    show(_table(effects, grid))
    if told := chance_of_stars(effects, len(grid.contexts)):
        print(told)
    read = tell_reading(scorers)
    if out is not None:
        content = {
            "grid": asdict(grid),
            "model": model.path,
            "asked": asking.as_dict(),
            "rewards": read,
            "effects": [e._asdict() for e in effects],
        }
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(json_text(content, indent=1), encoding="utf-8")


def chance_of_stars(effects: Sequence[Effect], contexts: int) -> str:
    """Return how many differences have a star, and how many would where nothing differs; nothing of one context.

    A grid of many values has many differences, and each 95 % interval leaves out 0 by chance one time in twenty.
    """
    apart = [effect.difference for effect in effects if effect.difference is not None]
    moved = [
        found for found in apart if found.low < found.high or found.excludes_zero
    ]  # not those that are 0 throughout
    if contexts < 2 or not moved:
        return ""
    stars = sum(found.excludes_zero for found in moved)
    return f"{stars} of {len(moved)} differences leave out 0; by chance alone about {0.05 * len(moved):.1f} would"


def _table(effects: list[Effect], grid: Grid) -> Table:
    count = len(grid.contexts)
    table = Table(title=f"95 % bootstrap over {count} contexts; * leaves out 0", title_justify="left")
    for header in ("measure", "value", "mean", f"minus {grid.values[0]}"):
        table.add_column(Text(header), justify="left" if header in ("measure", "value") else "right")
    for effect in effects:
        found = effect.difference
        star = "*" if found is not None and found.excludes_zero and count > 1 else " "
        row = (effect.measure, effect.value, short(effect.mean), "" if found is None else short(found) + star)
        table.add_row(*map(Text, row))
    return table


VERB = FunctionVerb(probe_grid, unused=UNUSED)
