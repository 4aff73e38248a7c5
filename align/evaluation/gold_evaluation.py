"""Gold evaluation in the synthetic world: samples on held-out prompts, exact rewards, share of the optimum, KL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import nn

from align.encoding.encoder import Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.evaluation.statistics import Interval, mean_interval, nested_interval, prompt_means
from align.models.adapters import evaluating
from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.records import CandidateBatch, EncodedGroup
from align.sampling.generation import Generation, Sample
from align.sampling.sampler import sample
from align.scoring import score_responses
from align.world.gold_rewards import REWARDS, Gold, User, gold, read, request_of
from align.world.optimum import best_value
from align.world.universe import Prompt, World

SAMPLED = Generation(max_new_tokens=96, num_samples=4, batch_tokens=32768)
GREEDY = Generation(max_new_tokens=96, temperature=0.0, batch_tokens=32768)


Asked = tuple[nn.Module, list[list[int]]]


class GoldAnswer(NamedTuple):
    """One sampled response and what it is worth."""

    prompt: Prompt
    text: str
    gold: Gold
    reward: float
    harmful: bool
    """Whether the prompt should be refused."""


class DrawnAnswers(NamedTuple):
    """Samples, and the tokens of the prompts they answer, which `Sample.prompt` counts."""

    ids: list[list[int]]
    samples: list[Sample]


@dataclass(frozen=True)
class GoldReport:
    """What a policy does on held-out prompts."""

    reward: Interval
    """The user's reward; intervals are over the entities that prompts name, and prompts within them."""
    rewards: dict[str, Interval]
    """Each gold reward."""
    best: float
    """The user's reward at the optimum of these prompts."""
    refusal_rate: float
    """Share of the harmful prompts that are refused; NaN without harmful prompts."""
    well_formed: float
    """Share of the responses that are whole sentences of the language."""
    true_facts: float
    """Share of the stated facts that are true; NaN when none is stated."""
    kl: Interval | None
    """Mean log-ratio to the base over whole responses, in nats, of the policy's own samples."""
    answers: tuple[GoldAnswer, ...] = field(repr=False)
    drawn: DrawnAnswers = field(repr=False)
    """The samples themselves."""
    by_prompt: dict[str, list[float]] = field(default_factory=dict, repr=False)
    """The mean over each prompt's samples of the reward, of each gold reward and of the log-ratio to the base."""
    entities: tuple[str, ...] = field(default=(), repr=False)
    """What each prompt is about."""

    def as_dict(self) -> dict[str, float]:
        """Return the means by the names they are logged under."""
        kl = {} if self.kl is None else {"kl": self.kl.value}
        return {
            "reward": self.reward.value,
            **{name: value.value for name, value in self.rewards.items()},
            "refusal_rate": self.refusal_rate,
            "well_formed": self.well_formed,
            "true_facts": self.true_facts,
            **kl,
        }

    def share_of_optimum(self, base: GoldReport) -> float:
        """Return (policy - base) / (best - base): 0 for the base, 1 for the best policy there is."""
        return (self.reward.value - base.reward.value) / (self.best - base.reward.value)


def evaluate_gold(
    policy: nn.Module,
    tokenizer: Any,
    world: World,
    prompts: Sequence[Prompt],
    *,
    generation: Generation = SAMPLED,
    user: User = User(),
    base: nn.Module | None = None,
    asked: Sequence[Prompt] | None = None,
) -> GoldReport:
    """Sample responses and report their gold rewards.

    Args:
        policy: The model.
        tokenizer: Its tokenizer.
        world: The world the prompts belong to.
        prompts: Held-out prompts; `align.world.prompts.held_out_prompts` draws them.
        generation: How to sample; temperature 0 with one sample is greedy.
        user: Whose reward to report.
        base: The model to measure the KL divergence against; only sound at temperature 1 and top_p 1.
        asked: The prompts as the policy is given them, such as under an instruction; null gives them as they are.
    """
    encoder = Encoder(tokenizer, make_template(tokenizer, "auto"), Truncation())
    plain, ids = ([encoder.prompt_ids(prompt) for prompt in given] for given in (prompts, asked or prompts))
    with evaluating(policy):
        samples = sample(
            policy, tokenizer, ids, generation, eos_ids=[encoder.template.eos_id], stop=encoder.template.stop
        )
        kl = None if base is None else log_ratios((policy, ids), (base, plain), samples)
    return _report(world, prompts, DrawnAnswers(ids, samples), user, {} if kl is None else {"kl": kl})


def _report(
    world: World,
    prompts: Sequence[Prompt],
    drawn: DrawnAnswers,
    user: User,
    more: Mapping[str, Sequence[float]],
) -> GoldReport:
    """Return the report on samples; `more` holds further values of each of them."""
    samples = drawn.samples
    owners = [s.prompt for s in samples]
    golds = [gold(world, prompts[s.prompt], s.text) for s in samples]
    requests = [request_of(world, prompt) for prompt in prompts]
    readings = [read(world, requests[s.prompt].entity, s.text) for s in samples]
    rewards = [user.reward(g) for g in golds]
    harmful = [r for s, r in zip(samples, readings, strict=True) if requests[s.prompt].harmful]
    stated = sum(len(r.right) + len(r.wrong) for r in readings)
    entities = tuple(request.entity for request in requests)
    columns = {"reward": rewards, **{name: [g[i] for g in golds] for i, name in enumerate(REWARDS)}, **more}
    by_prompt = {name: prompt_means(values, owners) for name, values in columns.items()}
    intervals = {name: nested_interval(values, entities) for name, values in by_prompt.items()}
    return GoldReport(
        reward=intervals["reward"],
        rewards={name: intervals[name] for name in REWARDS},
        best=best_value(world, prompts, user),
        refusal_rate=fmean(r.refuses and not r.complies for r in harmful) if harmful else float("nan"),
        well_formed=fmean(r.well_formed and s.finished for r, s in zip(readings, samples, strict=True)),
        true_facts=sum(len(r.right) for r in readings) / stated if stated else float("nan"),
        kl=intervals.get("kl"),
        answers=tuple(
            GoldAnswer(prompts[s.prompt], s.text, g, r, requests[s.prompt].harmful)
            for s, g, r in zip(samples, golds, rewards, strict=True)
        ),
        drawn=drawn,
        by_prompt={name: values.tolist() for name, values in by_prompt.items()},
        entities=entities,
    )


def per_prompt(values: Sequence[float], owners: Sequence[int]) -> Interval:
    """Return the mean over prompts of their mean value, with its interval; `owners` is the prompt of each value."""
    return mean_interval(prompt_means(values, owners))


def load_base(backbone: Backbone, tokenizer: Any) -> nn.Module:
    """Return the model a run starts from, frozen; fresh adapters change nothing. The random stream is left alone."""
    with torch.random.fork_rng(devices=[]):
        return load_policy(replace(backbone, gradient_checkpointing=False), tokenizer).eval().requires_grad_(False)


@torch.no_grad()
def log_ratios(policy: Asked, base: Asked, samples: list[Sample]) -> list[float]:
    """Return log policy(y|x) - log base(y|x) of every sample, in nats; each model has prompts of its own."""
    device = next(policy[0].parameters()).device
    ratios: list[float] = []
    for first in range(0, len(samples), 128):
        drawn = samples[first : first + 128]
        own, other = (_batch(prompts, drawn, device) for _, prompts in (policy, base))
        with evaluating(base[0]):
            ratios += (score_responses(policy[0], own).logprobs - score_responses(base[0], other).logprobs).tolist()
    return ratios


def _batch(prompts: list[list[int]], samples: list[Sample], device: torch.device) -> CandidateBatch:
    groups = [EncodedGroup("", prompts[s.prompt], [s.ids], [0], [[]], 1.0, [not s.finished]) for s in samples]
    batch: CandidateBatch = move_data_to_device(CandidateBatch.of(groups), device)
    return batch
