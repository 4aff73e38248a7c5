"""`align benchmark world`: what models reach in the synthetic world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from align.evaluation.world_benchmark import Equal, WorldBenchmark, WorldPrompts
from align.models.backbone import Backbone
from align.records.asking import AskedModel
from align.world.universe import World

PARTS = (
    *("share", "held_out_entities", "helpfulness", "harmlessness", "verbosity", "refusal_rate", "true_facts"),
    *("well_formed", "flattery"),
)
EQUAL: dict[Equal, str] = {"entropy": "base_at_equal_entropy", "kl": "base_at_equal_kl"}


def world(
    models: Models,
    *,
    world: World | None = None,
    prompts: WorldPrompts = WorldPrompts(),
    temperatures: list[float] = [0.0, 0.7],  # noqa: B006  read only; jsonargparse wants the value itself
    matched_base: bool = True,
    held_out_entities: bool = False,
    out: str | None = None,
) -> None:
    """Say what models reach in the synthetic world: exact rewards, share of the optimum, divergence from the first.

    Four samples a prompt at temperature 1 and others; beside each model stands the untouched first one at the
    temperatures at which it has the same entropy per token, and the same KL divergence to itself at temperature 1, so
    that sharpening is not taken for learning. A share is
    (reward - that of the first) / (optimum - that of the first); the optimum of these prompts is computed. Intervals
    are 95 % bootstraps over the entities that prompts name, and over prompts within them. The world is the one that the
    folders of the models say; models of different worlds, or of none, are refused.

    Args:
        models: Model or adapter folders, each asked as its folder says; the first is the one training started from. By
            name (`--models.NAME DIR`) with what is asked otherwise, as in `--models.NAME.plain true`.
        world: The world of models whose folders say none, as in `--world.version 1`; null takes what the folders say.
        prompts: How many held-out prompts.
        temperatures: Where rewards are measured beside temperature 1; 0 takes the most probable tokens (`greedy`).
        matched_base: Measure the first model where it is as sharp as each of the others, and where sharpening alone has
            moved it as far; this takes some ten draws.
        held_out_entities: Measure prompts about entities that no training saw, too.
        out: JSON file to write; null prints the tables alone.
    """
    askings = AskedModels(models)
    if not askings.names:
        raise ConfigError("models: name at least one model folder")
    if not all(temperature >= 0 for temperature in temperatures):
        raise ConfigError(f"temperatures must not be negative, got {temperatures}")
    universe = world_of([askings.path(name) for name in askings.names], world)
    found: dict[str, dict[str, Any]] = {}
    benchmark: WorldBenchmark | None = None
    for name in askings.names:
        policy = Policy.load(Backbone(askings.path(name)), asking=askings.asking(name))
        benchmark = benchmark or WorldBenchmark(policy, prompts, universe)
        found[name] = benchmark.measure(policy, temperatures, held_out_entities=held_out_entities)
        for equal, key in EQUAL.items() if matched_base else ():
            found[name][key] = benchmark.base_at(equal, found[name])
    assert benchmark is not None
    first = next(iter(found.values()))
    for values in found.values():
        values["share"] = (values["reward"] - first["reward"]) / (first["best"] - first["reward"])
    show(_rewards(found))
    if matched_base:
        show(_matched(found))
    show(_parts(found))
    _tell(_unreached(found))
    write_json(
        out, {"prompts": vars(prompts), "world": universe.settings, "entities": benchmark.entities, "models": found}
    )


def _rewards(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return rewards by temperature."""
    others = list(next(iter(found.values()))["temperatures"])
    titles = [f"T = {t}" if t != "0" else "greedy" for t in others]
    view = _view("reward", "T = 1", *titles, "KL", "entropy")
    for name, values in found.items():
        cells = [_interval(values), *(_interval(values["temperatures"][t]) for t in others)]
        view.add_row(Text(name), *cells, f"{values['kl']:.2f}", f"{values['entropy']:.3f}")
    return view


def _tell(lines: Sequence[str]) -> None:
    """Print lines, if there are any."""
    for line in lines:
        print(line)


def _unreached(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what no temperature gives, in words."""
    told = (
        (name, equal, values.get(key, {}).get("unreached"))
        for name, values in found.items()
        for equal, key in EQUAL.items()
    )
    return [f"{name}: no temperature of the first model has its {equal}: {why}" for name, equal, why in told if why]


def _matched(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return what the untouched first model reaches at other temperatures, and the gain over it at temperature 1."""
    titles = [title for equal in EQUAL for title in (f"equal {equal}: T", "reward", "gain over it")]
    view = _view("the untouched first model where it equals each", *titles)
    for name, values in found.items():
        cells = []
        for base in (values[key] for key in EQUAL.values()):
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
