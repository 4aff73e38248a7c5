"""`align benchmark world`: what models reach in the synthetic world."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from rich.table import Table
from rich.text import Text

from align.cli.evaluation_tables import show, write_json
from align.cli.functions import FunctionVerb
from align.cli.model_options import gathered
from align.errors import ConfigError
from align.evaluation.asked_models import AskedModels, Models
from align.evaluation.model_world import world_of
from align.evaluation.policy import Policy
from align.evaluation.world_benchmark import WorldBenchmark, WorldPrompts
from align.models.backbone import Backbone
from align.records.asking import AskedModel

PARTS = (
    *("share", "held_out_entities", "helpfulness", "harmlessness", "verbosity", "refusal_rate", "true_facts"),
    *("well_formed", "flattery"),
)
EQUAL = "base_at_equal_entropy"


def world(
    models: Models,
    *,
    prompts: WorldPrompts = WorldPrompts(),
    temperatures: list[float] = [0.0, 0.7],  # noqa: B006  read only; jsonargparse wants the value itself
    equal_entropy: bool = True,
    held_out_entities: bool = False,
    out: str | None = None,
) -> None:
    """Say what models reach in the synthetic world: exact rewards, share of the optimum, divergence from the first.

    Four samples a prompt at temperature 1 and others; beside each model stands the untouched first one at the
    temperature at which it has the same entropy per token, so that sharpening is not taken for learning. A share is
    (reward - that of the first) / (optimum - that of the first); the optimum of these prompts is computed. Intervals
    are 95 % bootstraps over the entities that prompts name, and over prompts within them. The world is the one that the
    folders of the models say; models of different worlds are refused.

    Args:
        models: Model or adapter folders, each asked as its folder says; the first is the one training started from. By
            name (`--models.NAME DIR`) with what is asked otherwise, as in `--models.NAME.plain true`.
        prompts: How many held-out prompts.
        temperatures: Where rewards are measured beside temperature 1; 0 takes the most probable tokens (`greedy`).
        equal_entropy: Measure the first model where it is as sharp as each of the others, which takes some five draws.
        held_out_entities: Measure prompts about entities that no training saw, too.
        out: JSON file to write; null prints the tables alone.
    """
    askings = AskedModels(models)
    if not askings.names:
        raise ConfigError("models: name at least one model folder")
    if not all(temperature >= 0 for temperature in temperatures):
        raise ConfigError(f"temperatures must not be negative, got {temperatures}")
    universe = world_of([askings.path(name) for name in askings.names])
    found: dict[str, dict[str, Any]] = {}
    benchmark: WorldBenchmark | None = None
    for name in askings.names:
        policy = Policy.load(Backbone(askings.path(name)), asking=askings.asking(name))
        benchmark = benchmark or WorldBenchmark(policy, prompts, universe)
        found[name] = benchmark.measure(policy, temperatures, held_out_entities=held_out_entities)
        if equal_entropy:
            found[name][EQUAL] = benchmark.base_at_entropy(found[name]["entropy"], found[name]["by_prompt"]["reward"])
    assert benchmark is not None
    first = next(iter(found.values()))
    for values in found.values():
        values["share"] = (values["reward"] - first["reward"]) / (first["best"] - first["reward"])
    show(_rewards(found))
    show(_parts(found))
    for name, values in found.items():
        if unreached := values.get(EQUAL, {}).get("unreached"):
            print(f"{name}: no temperature of the first model has its entropy: {unreached}")
    write_json(
        out, {"prompts": vars(prompts), "world": universe.settings, "entities": benchmark.entities, "models": found}
    )


def _rewards(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return rewards by temperature, beside those of the base where it is as sharp."""
    first = next(iter(found.values()))
    others = list(first["temperatures"])
    titles = [f"T = {t}" if t != "0" else "greedy" for t in others]
    equal = ["T of the first", "its reward", "gain over it"] if EQUAL in first else []
    view = _view("reward, and that of the first model at equal entropy", "T = 1", *titles, "KL", "entropy", *equal)
    for name, values in found.items():
        cells = [_interval(values), *(_interval(values["temperatures"][t]) for t in others)]
        cells += [f"{values['kl']:.2f}", f"{values['entropy']:.3f}"]
        if equal:
            base = values[EQUAL]
            gain = {"reward": base["gain"], "low": base.get("gain_low"), "high": base.get("gain_high")}
            cells += ["-" if base["temperature"] is None else f"{base['temperature']:.2f}"]
            cells += [_interval(base), _interval(gain)]
        view.add_row(Text(name), *cells)
    return view


def _parts(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return what the reward at temperature 1 is made of."""
    columns = [key for key in PARTS if key in next(iter(found.values()))]
    view = _view("at temperature 1", *columns)
    for name, values in found.items():
        view.add_row(Text(name), *(f"{values[key]:.3f}" for key in columns))
    return view


def _view(title: str, *columns: str) -> Table:
    view = Table(title=title, title_justify="left")
    for place, header in enumerate(("model", *columns)):
        view.add_column(Text(header), justify="right" if place else "left")
    return view


def _interval(values: Mapping[str, Any]) -> str:
    if values["reward"] is None:
        return "-"
    return f"{values['reward']:.2f} [{values['low']:.2f}, {values['high']:.2f}]"


VERB = FunctionVerb(world, reword=partial(gathered, kind=AskedModel))
