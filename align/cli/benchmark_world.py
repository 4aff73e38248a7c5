"""`align benchmark world`: what models reach in the synthetic world."""

from __future__ import annotations

from functools import partial
from typing import Any

from rich.table import Table
from rich.text import Text

from align.cli.evaluation_tables import show, write_json
from align.cli.functions import FunctionVerb
from align.cli.model_options import gathered
from align.errors import ConfigError
from align.evaluation.asked_models import AskedModels, Models
from align.evaluation.policy import Policy
from align.evaluation.world_benchmark import WorldPrompts, measure_world
from align.models.backbone import Backbone
from align.records.asking import AskedModel

COLUMNS = (
    *("share", "reward", "greedy", "held_out_entities", "helpfulness", "harmlessness", "verbosity", "refusal_rate"),
    *("true_facts", "well_formed", "kl"),
)


def world(
    models: Models, *, prompts: WorldPrompts = WorldPrompts(), greedy: bool = False, out: str | None = None
) -> None:
    """Say what models reach in the synthetic world: exact rewards, share of the optimum, divergence from the first.

    Four samples a prompt at temperature 1. A share is (reward - that of the first) / (optimum - that of the first);
    the optimum of these prompts is computed.

    Args:
        models: Model or adapter folders, each asked as its folder says; the first is the one training started from. By
            name (`--models.NAME DIR`) with what is asked otherwise, as in `--models.NAME.plain true`.
        prompts: How many prompts of entities that were held out.
        greedy: Measure greedy answers too (`greedy`), and prompts about entities that no training saw
            (`held_out_entities`).
        out: JSON file to write; null prints the table alone.
    """
    askings = AskedModels(models)
    if not askings.names:
        raise ConfigError("models: name at least one model folder")
    found: dict[str, dict[str, Any]] = {}
    base: Policy | None = None
    for name in askings.names:
        policy = Policy.load(Backbone(askings.path(name)), asking=askings.asking(name))
        base = base or policy
        found[name] = measure_world(policy, base, prompts, greedy=greedy)
    first = next(iter(found.values()))
    for values in found.values():
        values["share"] = (values["reward"] - first["reward"]) / (first["best"] - first["reward"])
    show(_table(found))
    write_json(out, {"prompts": vars(prompts), "models": found})


def _table(found: dict[str, dict[str, Any]]) -> Table:
    view = Table(title="The synthetic world, at temperature 1", title_justify="left")
    columns = [key for key in COLUMNS if key in next(iter(found.values()))]
    for place, header in enumerate(("model", *columns)):
        view.add_column(Text(header), justify="right" if place else "left")
    for name, values in found.items():
        view.add_row(Text(name), *(f"{values[key]:.3f}" for key in columns))
    return view


VERB = FunctionVerb(world, reword=partial(gathered, kind=AskedModel))
