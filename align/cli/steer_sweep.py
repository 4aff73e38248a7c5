"""`align steer sweep`: what steering by a vector does, over coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from align.activations.artefact import chosen_vectors
from align.activations.reading_vectors import Kind
from align.cli.functions import FunctionVerb
from align.cli.generate import read_prompts
from align.cli.reward_models import RewardFolders, load_reward_models, tell_reading
from align.cli.unused import REWARD_TOKENS
from align.cli.unused_of_models import GREEDY, TRAINING
from align.errors import ConfigError
from align.evaluation.completions import EvaluationPrompt, encoded
from align.evaluation.model_world import world_of
from align.evaluation.policy import Policy
from align.evaluation.steering_sweep import SteeringPoint, sweep
from align.models.asked import asking_of
from align.models.backbone import Backbone
from align.records import Message
from align.records.asking import Ask
from align.rewards.named_rewards import Tokens
from align.rewards.reward_model_scorer import RewardModelScorer
from align.sampling.generation import Generation
from align.strict_json import json_text
from align.world.gold_rewards import User, gold
from align.world.prompts import held_out_prompts
from align.world.universe import World

COEFFICIENTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)

UNUSED = (
    TRAINING,
    GREEDY,
    REWARD_TOKENS,
)


def steer_sweep(  # noqa: PLR0913  the signature is the command line
    model: Backbone,
    steer: str,
    prompts: str | None = None,
    *,
    coefficients: list[float] = list(COEFFICIENTS),  # noqa: B006  never changed
    vector: Kind = "mean",
    layers: list[int] | None = None,
    rewards: RewardFolders | None = None,
    reward_tokens: Tokens = None,
    out: str | None = None,
    generation: Generation = Generation(max_new_tokens=96, num_samples=2),
    plain: bool = False,
) -> None:
    """Sample under each coefficient and print rewards, KL, length, repetition and variety.

    Args:
        model: The model; `--model.path DIR` is enough.
        steer: A `vectors.safetensors` of ActivationCollector.
        prompts: A file of prompts; null takes held-out prompts of the synthetic world and measures the gold reward.
        coefficients: Factors on the vectors.
        vector: Which of the vectors.
        layers: At which layers; null takes all of the file.
        rewards: Reward model folders, or folders by name (`--rewards.NAME DIR`), that score the completions, beside
            the gold reward where there is one.
        reward_tokens: Longest dialogue they read whole, for all (2048) or by name, or the last part of a folder's path
            ({rm: 2048}); null takes that of their training, or their context.
        out: JSON file to write beside printing.
        generation: How to draw; KL is sound at temperature 1 only.
        plain: Ask with the prompt alone, not as the folder says.
    """
    if not coefficients:
        raise ConfigError("coefficients is empty: give at least one")
    vectors = chosen_vectors(Path(steer), vector, layers)
    asking = asking_of(model.path, Ask(plain=plain))
    asking.tell(model.path)
    if asking.steer is not None:
        raise ConfigError(f"{model.path} is {asking.told} already: sweep it with --plain true")
    policy = Policy.load(model, asking=asking)
    world = None if prompts else world_of([model.path], way_out="ask it --prompts FILE of your own, with --rewards")
    asked = [EvaluationPrompt(p) for p in held_out_prompts(world, 120, 40)] if world else read_prompts(str(prompts))
    reward_models = load_reward_models(rewards or [], reward_tokens)
    points = sweep(
        policy.model,
        policy.tokenizer,
        encoded(policy.encoder, policy.asked(asked)),
        vectors,
        coefficients,
        generation=generation,
        eos_ids=policy.eos_ids,
        rewards=_rewards([prompt.messages for prompt in asked], reward_models, world),
    )
    print(table(points))
    tell_reading(reward_models)
    if out:
        Path(out).write_text(json_text([_plain(point) for point in points], indent=2), encoding="utf-8")


def _rewards(
    dialogues: Sequence[Sequence[Message]], reward_models: Mapping[str, RewardModelScorer], world: World | None
) -> Callable[[Sequence[int], Sequence[str]], Mapping[str, Sequence[float]]]:
    """Return what scores completions: reward models, one name per output, and the gold reward of a world."""

    def score(prompts: Sequence[int], texts: Sequence[str]) -> dict[str, list[float]]:
        asked = [dialogues[prompt] for prompt in prompts]
        found: dict[str, list[float]] = {}
        if world is not None:
            found["gold"] = [User().reward(gold(world, tuple(p), t)) for p, t in zip(asked, texts, strict=True)]
        for folder, reward_model in reward_models.items():
            columns = reward_model.score(asked, texts).T.tolist()
            single = len(columns) == 1
            for attribute, values in zip(reward_model.attributes, columns, strict=True):
                found[folder if single else f"{folder}:{attribute}"] = values
        return found

    return score


def table(points: list[SteeringPoint]) -> str:
    """Return Markdown, one row per coefficient."""
    names = [*(f"reward, {name}" for name in points[0].rewards), "KL", "tokens"]
    titles = ["coefficient", *names, "repetition", "compression", "finished"]
    rows = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for p in points:
        cells = [f"{p.coefficient:g}", *map(str, p.rewards.values()), str(p.kl), f"{p.tokens:.1f}"]
        cells += [f"{p.repetition:.3f}", f"{p.compression:.2f}", f"{p.finished:.2f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _plain(point: SteeringPoint) -> dict[str, Any]:
    rewards = {name: value._asdict() for name, value in point.rewards.items()}
    return {**point._asdict(), "kl": point.kl._asdict(), "rewards": rewards}


VERB = FunctionVerb(steer_sweep, unused=UNUSED)
