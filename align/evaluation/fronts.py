"""What a model reaches in every direction it can be asked for, measured, kept as a file, and drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from torch import nn

from align.encoding.encoder import Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.errors import DataError
from align.evaluation.completions import EvaluationPrompt, encoded
from align.evaluation.statistics import Interval, bootstrap
from align.models.asked import PLAIN, ModelAsking
from align.models.condition_file import Conditions
from align.records.reward_directions import Way, vector
from align.rewards.scorers import Scorer
from align.sampling.checked import LocalEngine
from align.sampling.generation import Generation, Request
from align.sampling.sampler import Sampler
from align.strict_json import json_text

GOLD_SCALES = {"helpfulness": (-6.0, 6.0), "verbosity": (0.0, 40.0)}
"""Of the gold rewards in points, as configs/callbacks/dpa_synthetic.yaml has them."""


class Point(NamedTuple):
    """One way to ask a model."""

    label: str
    clause: str = ""
    angle: Way | None = None
    """Of a direction, in degrees; a unit vector for more than two rewards."""


class Front(NamedTuple):
    """Rewards of a model, one point per way it was asked."""

    name: str
    attributes: tuple[str, ...]
    points: tuple[Point, ...]
    rewards: Float[np.ndarray, "point prompt attribute"]
    """Means over the samples of a prompt."""

    def columns(self, names: Sequence[str]) -> Float[np.ndarray, "point prompt reward"]:
        """Return rewards so that more is better: those named with a minus in front are negated.

        Raises DataError for one that was not measured.
        """
        plain = [name.lstrip("-") for name in names]
        if missing := [name for name in plain if name not in self.attributes]:
            raise DataError(f"{self.name}: no reward {missing[0]!r} (measured: {', '.join(self.attributes)})")
        signs = np.array([-1.0 if name.startswith("-") else 1.0 for name in names])
        places = [self.attributes.index(name) for name in plain]
        signed: Float[np.ndarray, "point prompt reward"] = self.rewards[..., places] * signs
        return signed

    def intervals(self) -> list[list[Interval]]:
        """Return the mean of every reward at every point, with a bootstrap interval over prompts."""
        return [bootstrap(rows) for rows in self.rewards]

    def worth(self, conditions: Conditions) -> list[Interval | None]:
        """Return v . r at every point that was asked for by a direction v."""
        columns = [self.attributes.index(name) for name in conditions.conditioning.attributes]
        return [
            None if p.angle is None else bootstrap((rows[:, columns] @ np.array(vector(p.angle)))[:, None])[0]
            for p, rows in zip(self.points, self.rewards, strict=True)
        ]


def on_scored_prompts(fronts: Sequence[Front], names: Sequence[str]) -> list[Front]:
    """Return fronts of the prompts that have these rewards at every point of all; says how many others there are.

    Points are compared on the same prompts, and a mean of what is missing is none. Raises DataError where no prompt is
    left.
    """
    missing = np.stack([np.isnan(front.columns(names)).any(axis=(0, 2)) for front in fronts])
    known: Bool[np.ndarray, " prompt"] = ~np.any(missing, axis=0)
    if not known.any():
        raise DataError(f"none of {len(known)} prompts has a score of every response: the scorer cannot read them")
    if left_out := int((~known).sum()):
        print(f"{left_out} of {len(known)} prompts are left out: the scorer gives a response to them no score")
    return [front._replace(rewards=front.rewards[:, known]) for front in fronts]


def points_of(conditions: Conditions | None, count: int) -> list[Point]:
    """Return the ways to ask a model: even steps on its arc, the ratings of its data, or one without a condition."""
    if conditions is None:
        return [Point("as it is")]
    conditioning = conditions.conditioning
    if conditions.asks == "ratings":
        return [Point(", ".join(f"{r:.0f}" for r in t), conditioning.ratings(t)) for t in conditions.targets]
    return [Point(_label(way), conditioning.direction(way), way) for way in conditioning.region.even(count)]


def _label(way: Way) -> str:
    return ", ".join(f"{w:.2f}" for w in way) if isinstance(way, tuple) else f"{way:.1f}°"


def measure(  # noqa: PLR0913
    name: str,
    policy: nn.Module,
    tokenizer: Any,
    prompts: Sequence[EvaluationPrompt],
    scorer: Scorer,
    *,
    conditions: Conditions | None,
    points: Sequence[Point],
    generation: Generation,
    asking: ModelAsking = PLAIN,
) -> Front:
    """Sample under every point, with the same random numbers, and score; `asking` is the point without conditions."""
    encoder = Encoder(tokenizer, make_template(tokenizer, settings=asking.chat_template_kwargs), Truncation())
    engine = LocalEngine(policy, tokenizer, [encoder.template.eos_id], encoder.template.stop)
    rewards = []
    for point in points:
        put = asking.apply if conditions is None else partial(conditions.conditioning.apply, clause=point.clause)
        asked = [p._replace(messages=put(p.messages)) for p in prompts]
        ids = encoded(encoder, asked)
        requests = [Request(str(i), ids[i], p.messages, p.tools) for i, p in enumerate(asked)]
        if asking.steer is not None:
            engine.check([request.ids for request in requests])
        with asking.steering(policy):
            drawn = Sampler(engine, generation, said=encoder.template.said).sample(requests, bar=True)
        scores = scorer.score([prompts[s.prompt].messages for s in drawn], [s.text for s in drawn]).double().numpy()
        rewards.append(scores.reshape(len(prompts), generation.num_samples, -1).mean(1))
    return Front(name, scorer.attributes, tuple(points), np.stack(rewards))


def write_front(front: Front, path: Path) -> None:
    """Write a front as JSON."""
    content = {**front._asdict(), "points": [p._asdict() for p in front.points], "rewards": front.rewards.tolist()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json_text(content), encoding="utf-8")


def read_front(path: Path) -> Front:
    """Read what `write_front` wrote. Raises DataError for another file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        points = tuple(_point(**p) for p in content["points"])
        front = Front(str(content["name"]), tuple(content["attributes"]), points, np.array(content["rewards"], float))
        if front.rewards.ndim != 3 or front.rewards.shape[::2] != (len(points), len(front.attributes)):
            raise ValueError(f"rewards of shape {front.rewards.shape}")
        return front
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no file of `align front measure` or `align front compare` ({error})") from error


def _point(label: str, clause: str = "", angle: float | list[float] | None = None) -> Point:
    return Point(label, clause, tuple(map(float, angle)) if isinstance(angle, list) else angle)
