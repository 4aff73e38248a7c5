"""Online policy gradients on groups of samples: GRPO, RLOO and their relatives, without a critic."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from align.models.backbone import Backbone
from align.models.references import Reference
from align.objectives.policy_gradient import PolicyGradient
from align.records import CandidateBatch, Step, StepTotals
from align.training.high_entropy import HighEntropy
from align.training.optimizer import Optimizer
from align.training.rollout_module import RolloutModule
from align.training.rollouts import Rollouts
from align.training.sampled_metrics import record_samples


class GroupPolicyModule(RolloutModule):
    """Trains a policy on its own samples, n for a prompt, each against the others.

    `IterativeResampling` with the selection `EverySample` draws and scores them; a round of `prompts` equal to
    `data.batching.groups` is one optimiser step, so that every step is on fresh samples.
    """

    learning_rates = (1e-6, 1e-5)

    def __init__(
        self,
        backbone: Backbone,
        objective: PolicyGradient = PolicyGradient(),
        *,
        reference: Reference | None = None,
        optimizer: Optimizer = Optimizer(lr_scheduler_type="constant_with_warmup"),
    ) -> None:
        """Configure the policy gradient.

        Args:
            backbone: The policy.
            objective: Advantage, ratio, surrogate and means.
            reference: Where reference log-probabilities come from; null takes the policy's start, and none at beta 0.
            optimizer: AdamW and its schedule.
        """
        super().__init__(backbone, reference, optimizer)
        self.objective = objective
        self.entropy_gradients = objective.entropy_weight > 0
        self.high_entropy = HighEntropy(objective.top_entropy_quantile)
        self.compares = objective.advantage.baseline != "none"

    @property
    def reads_reference(self) -> bool:
        """Whether the objective does."""
        return self.objective.reads_reference

    @property
    def masks_truncated(self) -> bool:
        """Whether the objective does."""
        return self.objective.mask_truncated

    @property
    def reads_old(self) -> bool:
        """Whether the divergence stands in the reward."""
        return self.objective.reads_reference and self.objective.kl == "k1_in_reward"

    def judge(self, rollouts: Rollouts) -> None:
        """Add the advantage of every token, which is that of its sample."""
        sampled, columns, ratios = rollouts.sampled, rollouts.columns, None
        if self.reads_old:
            ratios = rollouts.sums(columns["old_logprobs"].double() - columns["reference_logprobs"].double())
        rewards = self.objective.shaped(torch.from_numpy(sampled.rewards), ratios)
        advantages = self.objective.advantage(rewards.numpy(), sampled.sizes)
        if not advantages.any():
            rank_zero_warn(
                "the samples of a whole round have no advantage over each other, as where all rewards of a prompt are "
                "equal: nothing is learned from them (the callback PolicyWatch ends such a run)"
            )
        columns["advantages"] = rollouts.by_token(advantages)

    def begin_step(self, step: Step) -> None:
        """Count samples and tokens, and find the tokens of high entropy."""
        super().begin_step(step)
        self.high_entropy.begin_step(self, step)

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return the objective over the step's samples or tokens."""
        objective, tokens = self.objective, self.sampled_tokens(batch, self._states(self.model, batch))
        acted_on, over_tokens = tokens.counted, self.step_tokens
        if self.high_entropy.share < 1:
            tokens, over_tokens = self.high_entropy.mark(tokens, batch)
            assert tokens.high_entropy is not None
            acted_on = tokens.high_entropy
        losses, clipped = objective(tokens)
        record_samples(self, batch, tokens, clipped)
        if objective.off_policy_mask_threshold is not None:
            self.record("off_policy", objective.off_policy(tokens), batch.candidate_weights())
        weights = tokens.on_tokens(batch.candidate_weights())
        over = self.step_tokens if objective.mean == "token" else self.step_samples
        loss = objective.added_up(losses * weights, tokens) / over
        if objective.entropy_weight:
            bonus = (tokens.entropies * acted_on * weights).sum() / over_tokens
            loss = loss - objective.entropy_weight * bonus
        return loss
