"""`align benchmark world`: what models reach in the synthetic world."""

from __future__ import annotations

from functools import partial
from typing import Any

from align.cli.evaluation_tables import write_json
from align.cli.functions import FunctionVerb
from align.cli.model_options import gathered
from align.cli.reward_models import RewardFolders, load_reward_models
from align.cli.world_tables import EQUAL, show_world
from align.errors import ConfigError
from align.evaluation.asked_models import AskedModels, Models
from align.evaluation.best_of_n import BestOf
from align.evaluation.model_world import world_of
from align.evaluation.policy import Policy
from align.evaluation.world_benchmark import WorldBenchmark, WorldPrompts
from align.evaluation.world_rewards import WorldRewards
from align.models.backbone import Backbone
from align.records.asking import AskedModel
from align.world.universe import World


def world(  # noqa: PLR0913  the signature is the command line
    models: Models,
    *,
    world: World | None = None,
    prompts: WorldPrompts = WorldPrompts(),
    temperatures: list[float] = [0.0, 0.7],  # noqa: B006  read only; jsonargparse wants the value itself
    matched_base: bool = True,
    held_out_entities: bool = False,
    rewards: RewardFolders | None = None,
    best_of: list[int] | None = None,
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
        rewards: Reward model folders, by name (`--rewards.proxy DIR`), asked about the same samples.
        best_of: What the best of n samples of the first model reaches, chosen by the gold reward and by each of
            `rewards`, for these n, as in `[1, 4, 16]`; as many samples of each prompt are drawn as the largest.
        out: JSON file to write; null prints the tables alone.
    """
    askings = AskedModels(models)
    if not askings.names:
        raise ConfigError("models: name at least one model folder")
    if not all(temperature >= 0 for temperature in temperatures):
        raise ConfigError(f"temperatures must not be negative, got {temperatures}")
    sizes = [] if best_of is None else BestOf(best_of).n
    folders = list(rewards.values() if isinstance(rewards, dict) else rewards or [])
    universe = world_of([*map(askings.path, askings.names), *folders], world)
    beside = WorldRewards(load_reward_models(rewards or [], None))
    found: dict[str, dict[str, Any]] = {}
    benchmark: WorldBenchmark | None = None
    for name in askings.names:
        policy = Policy.load(Backbone(askings.path(name)), asking=askings.asking(name))
        benchmark = benchmark or WorldBenchmark(policy, prompts, universe, rewards=beside)
        found[name] = benchmark.measure(policy, temperatures, held_out_entities=held_out_entities)
        if sizes and name == askings.names[0]:
            found[name]["best_of"] = benchmark.best_of(policy, sizes)
        for equal, key in EQUAL.items() if matched_base else ():
            found[name][key] = benchmark.base_at(equal, found[name])
    assert benchmark is not None
    first = next(iter(found.values()))
    for values in found.values():
        values["share"] = (values["reward"] - first["reward"]) / (first["best"] - first["reward"])
    show_world(found)
    write_json(
        out, {"prompts": vars(prompts), "world": universe.settings, "entities": benchmark.entities, "models": found}
    )


VERB = FunctionVerb(world, reword=partial(gathered, kind=AskedModel))
