"""Evaluates the responses of a policy while it trains: by reward models, and by a judge."""

from __future__ import annotations

import itertools
import json
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from align.callbacks.samples import refuse_without_policy, write_table
from align.errors import ConfigError
from align.evaluation.completions import EvaluatedCompletion, EvaluationPrompt, Policy
from align.evaluation.gold_evaluation import load_base
from align.evaluation.judging import evaluate_judge
from align.evaluation.reward_evaluation import TOTAL, divergence, evaluate_responses
from align.judges.preference import Judge
from align.records import Example
from align.rewards.named_rewards import Tokens, limits, named_rewards
from align.rewards.reward_model_scorer import RewardModelScorer
from align.sampling.generation import Generation
from align.strict_json import json_text

GREEDY = Generation(temperature=0.0)


class ResponseEvaluation(Callback):
    """Samples on fixed held-out prompts before training and after each validation run, and measures the responses.

    The policy is asked as its method asks it: under the good instruction or marker, or a direction, where it has one.
    Appends what it finds to a file of its name in the run folder, one line per step; a step is not evaluated twice.
    """

    name: str

    def __init__(self, num_prompts: int, generation: Generation) -> None:
        self.num_prompts, self.generation = num_prompts, generation
        self._prompts: list[EvaluationPrompt] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the prompts and evaluate the model the run starts from."""
        module, data = pl_module, trainer.datamodule  # type: ignore[attr-defined]
        if getattr(module, "device_mesh", None) is not None:
            raise ConfigError(f"align.callbacks.evaluation.{type(self).__name__} cannot sample from a sharded model")
        refuse_without_policy(module, self)
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        found = {e.messages: e for e in in_turns(data.examples("val"), self.num_prompts)}
        self._prompts = [EvaluationPrompt.of(example, example.source) for example in found.values()]
        if not self._prompts:
            raise ConfigError(f"align.callbacks.evaluation.{type(self).__name__} needs a validation split")
        self._evaluate(trainer, module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the model as it is."""
        if self._prompts and not trainer.sanity_checking and trainer.state.fn == "fit":
            self._evaluate(trainer, pl_module)

    @abstractmethod
    def measure(
        self, prompts: Sequence[EvaluationPrompt], completions: Sequence[EvaluatedCompletion]
    ) -> dict[str, float]:
        """Return what to log of the responses."""

    def further(self, policy: Policy) -> dict[str, float]:
        """Return what else to log, of responses sampled in other ways."""
        return {}

    def _evaluate(self, trainer: Trainer, module: Any) -> None:
        file = Path(trainer.default_root_dir) / f"{self.name}.jsonl"
        done = [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.exists() else []
        if trainer.global_step in done:
            return
        encoder = trainer.datamodule.encoder  # type: ignore[attr-defined]
        policy = Policy(module.model, module.tokenizer, encoder, [encoder.template.eos_id], module.asking)
        completions = policy.complete(self._prompts, self.generation)
        values = self.measure(self._prompts, completions) | self.further(policy)
        for logger in trainer.loggers:
            logger.log_metrics({f"{self.name}/{k}": v for k, v in values.items()}, step=trainer.global_step)
        rows = [(self._prompts[c.prompt].messages[-1].content, c.text) for c in completions[:8]]
        write_table(trainer, f"{self.name}/samples", rows)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            asked = {"asked": module.asking.told} if module.asking.told else {}
            print(json_text({"step": trainer.global_step, **values, **asked}), file=stream)


def in_turns(examples: Sequence[Example], count: int) -> list[Example]:
    """Return the first examples, one of every source after the other: files of several subsets stand in a row."""
    sources: dict[str, list[Example]] = {}
    for example in examples:
        sources.setdefault(example.source, []).append(example)
    rounds = itertools.zip_longest(*sources.values())
    return [example for turn in rounds for example in turn if example is not None][:count]


class RewardEvaluation(ResponseEvaluation):
    """Logs `rewards/NAME`, `rewards/NAME/sigmoid`, lengths, refusal rate, repetition and BLEU.

    Where the prompts are of several sources, such as the subsets of HH-RLHF, the same of each, under
    `rewards/NAME/SUBSET` and `rewards/text/SUBSET/`, as PRO's tables have it (arXiv:2306.17492). At a further
    temperature of 0.7, say, all of it stands under `rewards/t0.7/`.
    """

    name = "rewards"

    def __init__(
        self,
        rewards: dict[str, str],
        num_prompts: int = 64,
        generation: Generation = GREEDY,
        *,
        temperatures: Sequence[float] = (),
        kl: bool = False,
        reward_tokens: Tokens = None,
    ) -> None:
        """Configure the evaluation.

        Args:
            rewards: Reward model folders by the name they are logged under; not the one that trains the policy.
            num_prompts: How many prompts: the first of the validation split, of all its sources alike.
            generation: How to sample.
            temperatures: Further temperatures to sample at, one response each.
            kl: Log `rewards/t1/kl`, the divergence from the policy the run starts from, of which it holds a copy; needs
                1 among the temperatures and top_p 1.
            reward_tokens: Longest dialogue the reward models read whole, for all (2048) or by name ({rm: 2048}); null
                takes that of their training, or their context.
        """
        super().__init__(num_prompts, generation)
        if not all(0 < t < math.inf for t in temperatures):
            raise ConfigError(f"RewardEvaluation.temperatures must be positive numbers, got {list(temperatures)}")
        if kl and (1.0 not in temperatures or generation.top_p != 1):
            raise ConfigError("RewardEvaluation.kl is estimated at temperature 1 and top_p 1: add 1.0 to temperatures")
        self.rewards, self.temperatures, self.kl = rewards, list(temperatures), kl
        self.reward_tokens = reward_tokens
        limits(list(rewards), reward_tokens)  # a wrong name is told before training
        self._scorers: dict[str, RewardModelScorer] = {}
        self._base: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the policy the run starts from, where it is needed."""
        module: Any = pl_module
        refuse_without_policy(module, self)
        if self.kl and trainer.is_global_zero:
            self._base = load_base(module.backbone, module.tokenizer).to(module.device)
        super().on_fit_start(trainer, pl_module)

    def further(self, policy: Policy) -> dict[str, float]:
        """Sample at the further temperatures."""
        values: dict[str, float] = {}
        for temperature in self.temperatures:
            generation = replace(self.generation, temperature=temperature, num_samples=1)
            completions = policy.complete(self._prompts, generation)
            found = self.measure(self._prompts, completions)
            if self.kl and temperature == 1:
                new_tokens, start = generation.max_new_tokens, policy.with_model(self._base)
                found["kl"] = divergence(policy, start, self._prompts, completions, new_tokens).value
            values |= {f"t{temperature:g}/{key}": value for key, value in found.items()}
        return values

    def measure(
        self, prompts: Sequence[EvaluationPrompt], completions: Sequence[EvaluatedCompletion]
    ) -> dict[str, float]:
        """Score the responses."""
        self._scorers = self._scorers or named_rewards(self.rewards, self.reward_tokens)
        report = evaluate_responses(prompts, completions, self._scorers)
        values: dict[str, float] = {}
        for name, parts in report.rewards.items():
            for subset, part in parts.items():
                key = name if subset == TOTAL else f"{name}/{subset}"
                values |= {key: part.raw.value, f"{key}/sigmoid": part.sigmoid.value}
        texts = {"text": report.text, **{f"text/{subset}": text for subset, text in report.text_by_subset.items()}}
        return values | {
            f"{key}/{k}": float(v) for key, text in texts.items() for k, v in text.items() if not isinstance(v, str)
        }


class JudgeEvaluation(ResponseEvaluation):
    """Logs the win rate over the chosen responses of the data, its interval, ties, flips and invalid items.

    A judge that a budget or its service stops ends the run as a pause does: the same command goes on from there.
    """

    name = "judge"

    def __init__(self, judge: Judge, num_prompts: int = 64, generation: Generation = GREEDY) -> None:
        """Configure the evaluation.

        Args:
            judge: Who compares.
            num_prompts: How many prompts: the first of the validation split; those without a reference are left out.
            generation: How to sample.
        """
        if generation.num_samples != 1:
            raise ConfigError(
                "align.callbacks.evaluation.JudgeEvaluation compares one response of each prompt: leave out "
                f"generation.num_samples {generation.num_samples}"
            )
        super().__init__(num_prompts, generation)
        self.judge = judge

    def measure(
        self, prompts: Sequence[EvaluationPrompt], completions: Sequence[EvaluatedCompletion]
    ) -> dict[str, float]:
        """Compare the responses with the references."""
        pairs = [(prompts[c.prompt], c.text, ref) for c in completions if (ref := prompts[c.prompt].reference)]
        if not pairs:
            raise ConfigError("align.callbacks.evaluation.JudgeEvaluation needs prompts with a chosen response")
        asked, ours, references = zip(*pairs, strict=True)
        total = evaluate_judge(self.judge, asked, ours, references).total
        shares = {"win": total.win, "tie": total.tie, "lose": total.lose, "flip_rate": total.flip_rate}
        return {
            "win_rate": total.win_rate.value,
            "win_rate_low": total.win_rate.low,
            "win_rate_high": total.win_rate.high,
            **{name: share.value for name, share in shares.items()},
            "length_controlled": total.length_controlled,
            "first_rate": total.first_rate,
            "invalid": float(total.invalid),
        }
