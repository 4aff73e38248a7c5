"""`align front compare`: the fronts of several models, who dominates whom, and their hypervolumes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch.utils.tensorboard import SummaryWriter

from align.cli.front_measure import EVALUATION, measured, rewards_of, scorer_of
from align.cli.functions import FunctionVerb
from align.cli.model_options import gathered
from align.cli.unused import Settings, Unused
from align.cli.unused_of_models import GREEDY
from align.errors import ConfigError
from align.evaluation.asked_models import Models, paths_of
from align.evaluation.front_pictures import front_picture
from align.evaluation.fronts import Front, on_scored_prompts, read_front, write_front
from align.evaluation.hypervolume import curve_dominates, dominates, hypervolume, hypervolume_interval, pareto_front
from align.evaluation.statistics import Interval
from align.models.asked import PLAIN, asking_of
from align.models.backbone import Backbone
from align.models.condition_file import Conditions, read_condition_file
from align.records.asking import Ask, AskedModel
from align.rewards.scorers import Scorer
from align.sampling.generation import Generation
from align.strict_json import json_text

Corner = Float[np.ndarray, " reward"]


def _measured(settings: Settings) -> bool:
    return all(path.endswith(".json") for path, _ in paths_of(settings["models"]))


def _undirected(settings: Settings) -> bool:
    found = [_arc(path, ask) for path, ask in paths_of(settings["models"])]
    return not any(conditions is not None and conditions.asks == "direction" for conditions in found)


UNUSED = (
    Unused(
        ("scorer", "prompts", "generation"),
        _measured,
        "files of `align front measure` are measured already: name a model folder among --models, or leave it out",
    ),
    Unused(("count",), _undirected, "no model of --models is asked for directions: leave it out"),
    GREEDY,
)


def front_compare(  # noqa: PLR0913  the signature is the command line
    models: Models,
    scorer: Scorer | None = None,
    prompts: str | None = None,
    *,
    attributes: list[str] | None = None,
    reference: list[float] | None = None,
    names: list[str] | None = None,
    count: int = 10,
    out: str = "runs/pareto",
    generation: Generation = EVALUATION,
) -> None:
    """Compare models over two rewards or more: fronts, dominance, hypervolume with 95 % intervals over prompts.

    A model trained under directions is asked for `count` of them, a SteerLM model for its ratings, any other model is
    one point. Over two rewards a model also reaches the straight lines between its points. Writes
    OUT/fronts/NAME.json, pareto.json, pareto.png and a tensorboard figure.

    Args:
        models: Model folders, or files that `align front measure` wrote, measured on the same prompts. By name with
            what is asked, as in `--models.NAME.direction 0.8,-0.6`, a model is that one point.
        scorer: What responses are worth; null takes the gold rewards of the synthetic world,
            in points.
        prompts: A file of prompts; null takes held-out harmless prompts of the synthetic world.
        attributes: The rewards by name, a minus in front of one that should be small, as in [helpfulness,-verbosity];
            null takes those of the first model that was trained under conditions.
        reference: The point that hypervolumes are measured from, a value for each reward as it is scored; null takes
            the worst mean of all models in each.
        names: What the models are called; null takes the names of their folders.
        count: Directions per model.
        out: Folder to write.
        generation: How to draw.
    """
    if names is not None and len(names) != len(models):
        raise ConfigError(f"{len(models)} models but {len(names)} names")
    rewards = attributes or _rewards(models)
    if len(rewards) < 2 or (reference is not None and len(reference) != len(rewards)):
        raise ConfigError(
            f"attributes takes two values or more and reference as many, got {rewards} and reference {reference}"
        )
    folder, fronts = Path(out), []
    names = names or (list(models) if isinstance(models, dict) else None)
    folders = [path for path, _ in paths_of(models) if not path.endswith(".json")]
    for place, (model, ask) in enumerate(paths_of(models)):
        if model.endswith(".json"):
            front = read_front(Path(model))
        else:
            conditions = _arc(model, ask)
            asking = PLAIN if conditions is not None else asking_of(model, ask)
            given = scorer_of(scorer, prompts, folders)
            asking.tell(names[place] if names else model)
            front = measured(
                Backbone(model), conditions, given, prompts, count=count, generation=generation, asking=asking
            )
        fronts.append(front._replace(name=names[place] if names else front.name))
        write_front(fronts[-1], folder / "fronts" / f"{place}-{fronts[-1].name}.json")
    if len({front.name for front in fronts}) < len(fronts):
        raise ConfigError("two models have the same name: give --names")
    if len({front.rewards.shape[1] for front in fronts}) > 1:
        raise ConfigError("the models were measured on different prompts: measure them together")
    fronts = on_scored_prompts(fronts, rewards)
    worst = np.concatenate([front.columns(rewards).mean(1) for front in fronts]).min(0)
    corner = worst if reference is None else np.array(reference) * signs(rewards)
    found = compare(fronts, rewards, corner)
    print(show(found, rewards, corner))
    content: dict[str, Any] = {"rewards": rewards, "reference": (corner * signs(rewards)).tolist()}
    content["models"] = [one._asdict() for one in found]
    (folder / "pareto.json").write_text(json_text(content, indent=1), encoding="utf-8")
    picture = front_picture(fronts, rewards)
    picture.savefig(folder / "pareto.png", dpi=150)
    with SummaryWriter(str(folder)) as writer:
        writer.add_figure("pareto", picture)
    print(f"{folder}: fronts, pareto.json, pareto.png, tensorboard")


class Standing(NamedTuple):
    """A model among others."""

    name: str
    asked: list[str]
    means: list[list[float]]
    """Mean rewards at every point, as they are scored."""
    on_front: int
    """Points that no other of its own dominates."""
    hypervolume: Interval
    dominates: list[str]
    """Models whose every point its curve dominates."""


def compare(fronts: list[Front], rewards: list[str], corner: Corner) -> list[Standing]:
    """Return how models stand to each other; `corner` is the hypervolume's reference, where more is better."""
    tables = {front.name: front.columns(rewards) for front in fronts}
    means = {name: table.mean(1) for name, table in tables.items()}
    beats = curve_dominates if len(rewards) == 2 else dominates
    found = []
    for front in fronts:
        own = means[front.name]
        low, high = hypervolume_interval(tables[front.name], corner.tolist())
        found.append(
            Standing(
                front.name,
                [point.label for point in front.points],
                (own * signs(rewards)).tolist(),
                len(pareto_front(own)),
                Interval(hypervolume(own, corner.tolist()), low, high),
                [name for name, theirs in means.items() if name != front.name and beats(own, theirs)],
            )
        )
    return found


def signs(rewards: list[str]) -> Corner:
    """Return -1 for a reward that should be small, else 1."""
    return np.array([-1.0 if name.startswith("-") else 1.0 for name in rewards])


def show(found: list[Standing], rewards: list[str], corner: Corner) -> str:
    """Return Markdown, one row per model."""
    values = zip(rewards, corner * signs(rewards), strict=True)
    told = ", ".join(f"{name.lstrip('-')} {value:.4g}" for name, value in values)
    rows = [f"| model | points | on its front | hypervolume over ({told}) | dominates |", "|---|---|---|---|---|"]
    for one in found:
        volume, low, high = one.hypervolume
        cells = [one.name, str(len(one.asked)), str(one.on_front), f"{volume:.4g} [{low:.4g}, {high:.4g}]"]
        rows.append(f"| {' | '.join([*cells, ', '.join(one.dominates)])} |")
    return "\n".join(rows)


def _arc(path: str, ask: Ask) -> Conditions | None:
    """Return the conditions a model is asked for one after the other; None where it is one point."""
    return None if path.endswith(".json") or ask != Ask() else read_condition_file(path)


def _rewards(models: Models) -> list[str]:
    for model, _ in paths_of(models):
        conditions = None if model.endswith(".json") else read_condition_file(model)
        if conditions is not None:
            return rewards_of(conditions)
    raise ConfigError(
        "no model says which rewards it was trained on: name two with --attributes [helpfulness,-verbosity]"
    )


VERB = FunctionVerb(front_compare, reword=partial(gathered, kind=AskedModel), unused=UNUSED)
