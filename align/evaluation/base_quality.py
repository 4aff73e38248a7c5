"""Is a base model of the synthetic world fit to measure methods on? What it can do, and what it falls short of."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from align.encoding.encoder import Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.evaluation.gold_evaluation import GREEDY, evaluate_gold
from align.models.adapters import evaluating
from align.records import Message
from align.sampling.generation import Generation
from align.sampling.sampler import sample
from align.world.corpus import checked_answer
from align.world.language import ASKS, CHECKED, LENGTHS, RIGHT, TAGS, WRONG
from align.world.prompts import held_out_prompts
from align.world.universe import World


@dataclass(frozen=True)
class BaseQuality:
    """What a base model does on held-out prompts at temperature 1, unless said otherwise."""

    well_formed: float
    """Share of the answers that are whole sentences of the language; at least 0.98."""
    true_facts: float
    """Share of the stated facts that are true; at least 0.8."""
    checks: float
    """Share of stated facts it calls right or wrong correctly when asked to check; at least 0.9."""
    tag_cosine: float
    """Cosine of the embeddings of the two instruction tokens; at most 0.9, or no method can tell them apart."""
    reward: float
    """Mean reward of the default user."""
    greedy_reward: float
    """The same for the most probable answers."""
    best: float
    """The most any policy reaches; the reward must be below half of it, so that there is room to improve."""

    numbers: float | None = None
    """Rank correlation between the words asked for and said; at least 0.9. None in world 1, which asks for none."""

    def faults(self) -> list[str]:
        """Return what falls short, in words."""
        checks = {
            f"well_formed {self.well_formed:.3f} is below 0.98": self.well_formed < 0.98,
            f"true_facts {self.true_facts:.3f} is below 0.8": not self.true_facts >= 0.8,
            f"checks {self.checks:.3f} is below 0.9": not self.checks >= 0.9,
            f"tag_cosine {self.tag_cosine:.3f} is above 0.9": self.tag_cosine > 0.9,
            f"numbers {self.numbers or 0:.3f} is below 0.9": self.numbers is not None and not self.numbers >= 0.9,
            f"reward {self.reward:.2f} is above half of {self.best:.2f}": self.reward > self.best / 2,
        }
        return [fault for fault, found in checks.items() if found]


def measure_base(model: nn.Module, tokenizer: Any, world: World) -> BaseQuality:
    """Measure a base model."""
    prompts = held_out_prompts(world, 160, 60)
    drawn = evaluate_gold(model, tokenizer, world, prompts)
    greedy = evaluate_gold(model, tokenizer, world, prompts, generation=GREEDY)
    rows = model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(list(TAGS))]  # type: ignore[operator]
    return BaseQuality(
        well_formed=drawn.well_formed,
        true_facts=drawn.true_facts,
        checks=check_accuracy(model, tokenizer, world),
        tag_cosine=F.cosine_similarity(rows[0], rows[1], dim=0).item(),
        reward=drawn.reward.value,
        greedy_reward=greedy.reward.value,
        best=drawn.best,
        numbers=number_correlation(model, tokenizer, world) if world.language.limited else None,
    )


def number_correlation(model: nn.Module, tokenizer: Any, world: World, answers: int = 200) -> float:
    """Return Spearman's correlation between the words that are asked for and those of the answers, at temperature 1."""
    draw = random.Random("numbers")
    encoder = Encoder(tokenizer, make_template(tokenizer, "chat"), Truncation())
    lengths = [draw.choice(LENGTHS) for _ in range(answers)]
    said = (draw.choice(ASKS).format(draw.choice(world.names)) + world.language.limited.format(n) for n in lengths)
    ids = [encoder.prompt_ids([Message("user", text)]) for text in said]
    generation = Generation(max_new_tokens=96, batch_tokens=32768)
    with evaluating(model):
        found = sample(model, tokenizer, ids, generation, eos_ids=[encoder.template.eos_id])
    words = [len(one.text.split()) for one in sorted(found, key=lambda one: one.prompt)]
    return float(stats.spearmanr(lengths, words).statistic)


@torch.no_grad()
def check_accuracy(model: nn.Module, tokenizer: Any, world: World, answers: int = 200) -> float:
    """Return how often the model finds the correct verdict more probable, after facts that are right or wrong."""
    draw = random.Random("checks")
    encoder = Encoder(tokenizer, make_template(tokenizer, "chat"), Truncation())
    right, wrong = tokenizer.convert_tokens_to_ids([RIGHT.rstrip("."), WRONG.rstrip(".")])
    device = next(model.parameters()).device
    correct: list[bool] = []
    with evaluating(model):
        for _ in range(answers):
            name = draw.choice(world.names)
            prompt = encoder.prompt_ids([Message("user", draw.choice(ASKS).format(name) + CHECKED)])
            answer = tokenizer(checked_answer(world, name, draw), add_special_tokens=False).input_ids
            ids = torch.tensor([prompt + answer], device=device)
            logits = model(input_ids=ids).logits[0, :-1]
            targets = ids[0, 1:]
            verdicts = (targets == right) | (targets == wrong)
            said_right = logits[verdicts, right] > logits[verdicts, wrong]
            correct += (said_right == (targets[verdicts] == right)).tolist()
    return sum(correct) / len(correct)
