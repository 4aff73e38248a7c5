"""`align front measure`: what a model reaches in every direction it can be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align.checks.trust import trust
from align.cli.evaluation_tables import name as short_name
from align.cli.functions import FunctionVerb
from align.cli.generate import read_prompts
from align.cli.unused import Settings, Unused
from align.cli.unused_of_models import GREEDY, TRAINING
from align.errors import ConfigError
from align.evaluation.completions import EvaluationPrompt
from align.evaluation.front_pictures import control_picture
from align.evaluation.fronts import GOLD_SCALES, Front, Point, measure, on_scored_prompts, points_of, write_front
from align.evaluation.model_world import known_worlds, world_of
from align.judges.win_rates import refuse_win_rates
from align.models.asked import PLAIN, ModelAsking
from align.models.backbone import Backbone
from align.models.condition_file import Conditions, needed_conditions, read_condition_file
from align.models.loading import load_policy
from align.models.tokenizer import load_tokenizer
from align.rewards.min_max_scaled import MinMaxScaled
from align.rewards.scorers import GoldRewards, RewardFolder, Scorer
from align.sampling.generation import Generation
from align.world.prompts import held_out_prompts
from align.world.universe import World

EVALUATION = Generation(max_new_tokens=96, temperature=0.7, num_samples=2)
NAMED = (GoldRewards, MinMaxScaled, RewardFolder)
"""Scorers that the command line takes without their path."""


def _rated(settings: Settings) -> bool:
    found = read_condition_file(settings["model"].path)
    return found is not None and found.asks == "ratings"


UNUSED = (
    TRAINING,
    GREEDY,
    Unused(("count",), _rated, "a model asked for ratings is asked for those its folder names: leave it out"),
)


def front_measure(
    model: Backbone,
    scorer: Scorer | None = None,
    prompts: str | None = None,
    *,
    count: int = 10,
    out: str = "runs/front",
    generation: Generation = EVALUATION,
) -> None:
    """Sample under every direction on the model's arc or cap, print and draw what is asked against what is reached.

    The table and the picture have 95 % bootstrap intervals over prompts; `align front compare` reads OUT/front.json. A
    SteerLM model is asked for the ratings its folder names.

    Args:
        model: A model trained under directions or ratings; `--model.path DIR` is enough.
        scorer: What the responses are worth; null takes the gold rewards of the synthetic world, in points.
        prompts: A file of prompts; null takes held-out harmless prompts of the synthetic world.
        count: Directions, at equal steps over the arc, or spread over the cap of more than two rewards.
        out: Folder to write.
        generation: How to draw.
    """
    if count < 2:
        raise ConfigError(f"count must be at least 2, got {count}")
    conditions = needed_conditions(model.path)
    front = measured(
        model, conditions, scorer_of(scorer, prompts, [model.path]), prompts, count=count, generation=generation
    )
    folder = Path(out)
    write_front(front, folder / "front.json")
    (scored,) = on_scored_prompts([front], rewards_of(conditions))
    print(table(scored, conditions))
    control_picture(scored, rewards_of(conditions)).savefig(folder / "directions.png", dpi=150)
    print(f"{folder}: front.json, directions.png")


def measured(
    model: Backbone,
    conditions: Conditions | None,
    scorer: Scorer,
    prompts: str | None,
    *,
    count: int,
    generation: Generation,
    asking: ModelAsking = PLAIN,
) -> Front:
    """Load a model and measure it; one without conditions has a single point, which is `asking`."""
    tokenizer = load_tokenizer(model)
    policy: Any = load_policy(model, tokenizer).eval()
    if not model.check:
        trust(policy)
    asked = (
        read_prompts(prompts)
        if prompts
        else [EvaluationPrompt(p) for p in held_out_prompts(_world([model.path]), 120, 0)]
    )
    points = points_of(conditions, count)
    if conditions is None and asking.told:
        points = [Point(asking.told)]
    return measure(
        short_name(str(Path(model.path).expanduser().absolute())),
        policy,
        tokenizer,
        asked,
        scorer,
        conditions=conditions,
        points=points,
        generation=generation,
        asking=asking,
    )


def scorer_of(scorer: Scorer | None, prompts: str | None, models: Sequence[str]) -> Scorer:
    """Return the scorer, for prompts of the synthetic world its gold rewards.

    Raises ConfigError for other prompts, for models of different worlds, for gold rewards of another one, and for win
    rates.
    """
    if scorer is None and prompts is not None:
        raise ConfigError("scorer: name one, such as --scorer RewardFolder --scorer.path DIR")
    refuse_win_rates(scorer, "name a scorer of single responses")
    if scorer is None:
        return MinMaxScaled(GoldRewards(_world(models)), GOLD_SCALES)
    for path, settings in known_worlds(models).items():
        if settings is not None:
            scorer.check_world(f"model {path}", settings)
    return scorer


def _world(models: Sequence[str]) -> World:
    return world_of(models, way_out="ask it --prompts FILE of your own, with a --scorer")


def rewards_of(conditions: Conditions) -> list[str]:
    """Return the rewards of a model, with a minus in front of one its arc or cap asks to be small."""
    conditioning = conditions.conditioning
    names, weights = conditioning.attributes, conditioning.region.middle_weights
    return [f"-{name}" if weight < 0 else name for name, weight in zip(names, weights, strict=True)]


def table(front: Front, conditions: Conditions) -> str:
    """Return Markdown, one row per point."""
    directed = conditions.asks == "direction"
    header = [conditions.asks, "prompt says", *front.attributes, *(["v . r"] if directed else [])]
    rows = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for point, found, worth in zip(front.points, front.intervals(), front.worth(conditions), strict=True):
        cells = [point.label, point.clause, *map(str, found), *([str(worth)] if directed else [])]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


VERB = FunctionVerb(front_measure, unused=UNUSED)
