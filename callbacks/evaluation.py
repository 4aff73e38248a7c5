"""Evaluates the responses of a policy while it trains: by reward models, and by a judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from lightning.pytorch import LightningModule, Trainer
from torch import nn

from align.callbacks.response_evaluation import ResponseEvaluation
from align.callbacks.run_parts import policy_of
from align.errors import ConfigError
from align.evaluation.completions import EvaluatedCompletion, EvaluationPrompt
from align.evaluation.gold_evaluation import load_base
from align.evaluation.judging import evaluate_judge
from align.evaluation.policy import Policy
from align.evaluation.reward_evaluation import TOTAL, evaluate_responses
from align.evaluation.start_comparison import compare_with_start
from align.judges.preference import Judge
from align.rewards.named_rewards import Tokens, limits, named_rewards
from align.rewards.reward_model_scorer import RewardModelScorer
from align.rewards.scorers import RewardFolder
from align.sampling.generation import Generation

GREEDY = Generation(temperature=0.0)


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
        self._base: nn.Module | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise ModelError for a folder that is no reward model, before the policy is loaded."""
        if stage == "fit":
            for path in self.rewards.values():
                RewardFolder(path).ready()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the policy the run starts from, where it is needed."""
        module = policy_of(pl_module, self)
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
                assert self._base is not None
                new_tokens, start = generation.max_new_tokens, policy.with_model(self._base)
                beside = compare_with_start(
                    policy, start, self._prompts, completions, new_tokens=new_tokens, temperature=temperature
                )
                assert beside.kl is not None
                found["kl"] = beside.kl.value
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
                values[key] = part.raw.value
                if part.sigmoid is not None:
                    values[f"{key}/sigmoid"] = part.sigmoid.value
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

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise what would stop the judge at its first question, such as a missing key, before the policy is loaded."""
        if stage == "fit":
            self.judge.ready()

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
